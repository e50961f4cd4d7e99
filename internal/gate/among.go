package gate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/calmdocs/dblocker/internal/bytelock"
	"github.com/calmdocs/dblocker/internal/rwlock"
)

// Handles whose locks reach beyond the process keep out other processes, too: who has passed the gate of this process takes
// that among processes, which is a byte of a file beside the database, and gives it up first. Readers that pass by need none.
//
// Whoever waits for the byte has the gate of this process, so of each there is one that waits to write. Several gates are taken
// in the order of their names, as by everybody.

// An openFile returns the lock file of a database; nil if there is no database yet.
type openFile func() (*bytelock.File, error)

// ReachBy says which file is to be opened when somebody passes the gate who is to keep out other processes.
func (g *Gate) ReachBy(open func() (*bytelock.File, error)) { g.file = open }

// AskToYield asks those to make way who have the gate, as far as they can: another process waits for it.
func (g *Gate) AskToYield() {
	for _, i := range g.lock.Snapshot() {
		if y, ok := i.Work.(rwlock.Yielder); ok && !i.Waiting {
			go y.Yield()
		}
	}
}

// A ReachError says that the gate was not to be had among processes. Err is rwlock.ErrTimeout, rwlock.ErrClosed or the
// context's error.
type ReachError struct {
	Name string // of the gate
	Mode rwlock.Mode
	Wait *bytelock.WaitError
	Err  error
}

func (e *ReachError) Error() string { return fmt.Sprintf("%s: %v", e.Name, e.Wait) }

func (e *ReachError) Unwrap() error { return e.Err }

// Reach takes what p, which has the gates of this process that are asked for, is to have of them among processes. If it cannot, p gives
// up those of the process, too.
func (a Passage) Reach(ctx context.Context, p *Place, w rwlock.Wait) (err error) {
	if a.More != nil {
		err = a.reachAll(ctx, p, w)
	} else {
		p.among, err = a.Gate.reach(ctx, a.Mode, &p.Hold, w)
	}
	if err != nil {
		p.StepBack()
	}
	return err
}

// reachAll is Reach where it is more than one.
func (a Passage) reachAll(ctx context.Context, p *Place, w rwlock.Wait) error {
	type gate struct {
		*Gate
		mode  rwlock.Mode
		among **bytelock.Lock
	}
	var all []gate
	if a.Gate != nil {
		all = append(all, gate{a.Gate, a.Mode, &p.among})
	}
	more := a.More
	more.among = make([]*bytelock.Lock, len(more.gates))
	for i, g := range more.gates {
		if !more.passed[i] {
			all = append(all, gate{g, more.mode, &more.among[i]})
		}
	}
	slices.SortFunc(all, func(a, b gate) int { return strings.Compare(a.name, b.name) })
	for _, g := range all {
		var err error
		if *g.among, err = g.reach(ctx, g.mode, &p.Hold, w); err != nil {
			return err
		}
	}
	return nil
}

// reach takes the gate among processes, for who has h of it in this one.
func (g *Gate) reach(ctx context.Context, mode rwlock.Mode, h *rwlock.Hold, w rwlock.Wait) (*bytelock.Lock, error) {
	if g.file == nil {
		return nil, nil
	}
	f, err := g.file()
	if f == nil {
		return nil, err
	}
	m := bytelock.Exclusive
	if mode == rwlock.Shared {
		m = bytelock.Shared
	}
	if l, err := f.TryAcquire(bytelock.Gate, m); l != nil || err != nil {
		return l, err
	}
	if w.Timeout <= 0 {
		return g.joinReach(f, m)
	}
	ended := h.TellWait(g.name, rwlock.Gate, mode)
	if ended == nil {
		return g.awaitReach(ctx, f, m, w)
	}
	l, err := g.awaitReach(ctx, f, m, w)
	if e, ok := err.(*ReachError); ok {
		ended(e.Err)
	} else {
		ended(err)
	}
	return l, err
}

// joinReach is reach for who does not wait.
func (g *Gate) joinReach(f *bytelock.File, m bytelock.Mode) (*bytelock.Lock, error) {
	var l *bytelock.Lock
	if m == bytelock.Shared {
		l = f.Join(bytelock.Gate, m)
	}
	if l == nil {
		return nil, g.reachError(m, &bytelock.WaitError{Err: bytelock.ErrTimeout})
	}
	return l, nil
}

// awaitReach is reach for who has to wait. A reader may be one thread of control with a reader that has the gate already, for whom
// somebody waits in another process: who has waited for Patience joins the readers of this process.
func (g *Gate) awaitReach(ctx context.Context, f *bytelock.File, m bytelock.Mode, w rwlock.Wait) (*bytelock.Lock, error) {
	within := bytelock.Wait{Timeout: w.Timeout, Stopped: w.Closed}
	began := time.Now()
	if m == bytelock.Shared {
		within.Timeout = min(w.Timeout, Patience)
		l, err := f.AcquireWithin(ctx, bytelock.Gate, m, within)
		if l == nil && errors.Is(err, bytelock.ErrTimeout) {
			l = f.Join(bytelock.Gate, m)
		}
		if l != nil || !errors.Is(err, bytelock.ErrTimeout) {
			return l, g.reachError(m, err)
		}
	}
	within.Timeout = w.Timeout - time.Since(began)
	impatient := w.Patience > 0 && w.Patience < within.Timeout
	if impatient {
		within.Timeout = w.Patience
	}
	l, err := f.AcquireWithin(ctx, bytelock.Gate, m, within)
	err = g.reachError(m, err)
	if e, ok := err.(*ReachError); ok && impatient && e.Err == rwlock.ErrTimeout {
		e.Err = rwlock.ErrDeadlock // as of a gate of this process that one keeps
	}
	return l, err
}

func (g *Gate) reachError(m bytelock.Mode, err error) error {
	var w *bytelock.WaitError
	if err == nil || !errors.As(err, &w) {
		return err
	}
	e := &ReachError{Name: g.name, Mode: rwlock.Exclusive, Wait: w, Err: w.Err}
	if m == bytelock.Shared {
		e.Mode = rwlock.Shared
	}
	switch w.Err {
	case bytelock.ErrTimeout:
		e.Err = rwlock.ErrTimeout
	case bytelock.ErrStopped:
		e.Err = rwlock.ErrClosed
	}
	return e
}

func (p *Place) leaveAmong() {
	if l := p.among; l != nil {
		p.among = nil
		l.Release()
	}
}

// StepBack gives up the gates that p has, for which it is going to ask again; or to leave.
func (p *Place) StepBack() {
	p.leaveAmong()
	p.untagged.leave()
	p.Hold.Release()
	if a := p.attached; a != nil {
		a.leaveAmong()
		for i := range a.holds {
			a.holds[i].Release()
		}
	}
}

func (a *Attached) leaveAmong() {
	for _, l := range a.among {
		if l != nil {
			l.Release()
		}
	}
	a.among = nil
}

// StepAside is for a passage that is awaited, and goes on to wait for something else than the gate, until it is awaited again.
func (a Passage) StepAside() {
	if a.IsAlone() {
		a.Gate.writers.Add(-1)
	}
}
