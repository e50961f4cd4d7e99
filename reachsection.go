package dblocker

import (
	"context"
	"database/sql/driver"
	"errors"
	"sync"
	"time"

	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/scope"
	"github.com/calmdocs/dblocker/internal/server"
)

// A section whose locks reach beyond the process has them on one connection, and all its statements run there: it is
// pinned. One that is begun inside it takes what it needs besides on the same connection. If that is lost, so are the
// locks, and the section ends.

// A pinReach is what a pinned connection has of the engine's locks.
type pinReach struct {
	mu  sync.Mutex     // guards due, and the calls that release
	due []*scope.Grant // of sections inside that have ended, to be released by who has the turn

	unused bool        // a lock that was kept is not relied on any more, and is to be given up by who has the turn
	over   bool        // the connection has gone back
	watch  *time.Timer // looks whether the server has ended the session; nil if nobody does
}

// pinFor returns the pin that the section has for itself; nil if it has none, or works on that of an outer one.
func (s *section) pinFor(asked bool) *pin {
	if s.backend.Scope != nil {
		asked = s.outerPin() == nil
	}
	if !asked {
		return nil
	}
	return &pin{section: s, turn: newTurn()}
}

// outerPin returns the pin of the sections that s was begun inside; nil if there is none.
func (s *section) outerPin() *pin {
	for o := s.outer; o != nil; o = o.outer {
		if o.pin != nil && o.backend == s.backend {
			return o.pin
		}
	}
	return nil
}

// reach takes the engine's locks for those that the section has taken itself. The caller has not seen it yet.
// It has waited for those so long.
func (s *section) reach(ctx context.Context, req sectionRequest, waited time.Duration) error {
	users, all := s.locks.Taken()
	if len(users) == 0 && !all {
		return nil
	}
	if s.backend.Scope.PerTx() {
		return errPooledSection
	}
	var m locks.Member // so that the connection does not go back meanwhile, should the context end
	if err := s.locks.Enter(&m, nil); err != nil {
		return err
	}
	defer m.Leave()
	id := s.locks.Identity()
	ask := scope.Ask{Users: users, All: all, Shared: req.mode == Shared, Owner: id.LockOwner(), Kind: rwlock.Section, Wait: s.db.lockTimeout}
	if req.try {
		ask.Wait = 0
	}
	if err := s.makeWayFor(ctx, ask); err != nil {
		return err
	}
	p := s.pin
	if p == nil {
		p = s.outerPin()
	}
	h := rwlock.Hold{Owner: id.LockOwner(), Kind: rwlock.Leaf, Work: &s.locks, Label: s.db.label(ctx)}
	w := s.db.wait()
	w.Timeout = max(w.Timeout, w.Self)
	if err := p.turn.acquire(ctx, &h, w); err != nil {
		return turnError(err)
	}
	defer p.section.locks.SweepDue()
	defer p.releaseDue()
	defer p.turn.unlock()
	return s.reachInTurn(ctx, p, ask, waited)
}

// reachInTurn does it on the connection of p, whose turn it has, or waits for a permit to do it. See reachWait.
func (s *section) reachInTurn(ctx context.Context, p *pin, ask scope.Ask, waited time.Duration) error {
	w := &reachWait{inAll: waited, spare: s.pin != nil && !p.used}
	defer w.end()
	p.waits = w
	defer func() { p.waits = nil }()
	for {
		err := s.reachOn(ctx, p, ask, w)
		if err != errQueues {
			return err
		}
		p.giveBack()
		if err := w.queue(ctx, s.db, s.backend, nil, &s.locks, s.db.wait()); err != nil {
			return err
		}
	}
}

// giveBack returns the connection, which nobody has used, to the pool. The caller has the turn.
func (p *pin) giveBack() {
	d := p.drawn
	p.drawn = server.Lease{}
	d.Conn.Pinned = false
	defer p.slot.Release()
	d.GiveBack()
}

// makeWayFor reads rows of the section's owner into memory that have what it asks for.
func (s *section) makeWayFor(ctx context.Context, ask scope.Ask) error {
	kin, err := spillKin(ctx, s.db, nil, s.locks.Identity().Owner, s.backend.Scope, ask)
	if err != nil {
		return err
	}
	for _, g := range kin {
		if g.Kind() != rwlock.Section && (!ask.Shared || !g.IsShared()) {
			return besideOwnError(ask)
		}
	}
	return nil
}

// reachOn does it on the connection of p, whose turn it has. One that has gone stale in the pool is replaced.
func (s *section) reachOn(ctx context.Context, p *pin, ask scope.Ask, w *reachWait) error {
	for tries := 0; ; tries++ {
		if p.lost {
			return ErrLockLost
		}
		if err := p.draw(ctx, s); err != nil {
			return err
		}
		if ended, _ := p.drawn.HasEnded(); ended && tries <= s.db.limits.MaxIdleConns {
			p.discard()
			continue
		}
		sc := p.drawn.Conn
		if err := clearRows(ctx, s.db, sc); err != nil {
			return err
		}
		claimToAsk(sc)
		ask.InTx = p.transaction != nil
		var g *scope.Grant
		err := w.take(ctx, s.db, s.backend, ask, func(ask scope.Ask) (err error) {
			g, err = s.backend.Scope.Take(ctx, sc, ask)
			return err
		})
		switch err {
		case errQueues:
			return err
		case nil:
			s.grant = g
			g.KeepBy(p)
			if s.pin != nil {
				p.watch(sc)
			}
			return nil
		}
		mayBeStale := p.drawn.MayBeStale && !p.used
		if sc.HasFailed() {
			p.discard()
		}
		if !mayBeStale || !errors.Is(err, driver.ErrBadConn) || tries > s.db.limits.MaxIdleConns {
			if ctx.Err() != nil { // with which a driver may give its connection up
				err = ctx.Err()
			}
			return s.db.reachError(ctx, s.backend, err, ask, w.inAll)
		}
	}
}

// clearPinned reads rows into memory that are open on the connection of a section which has it for its locks: beside
// them the drivers could do nothing on it, and the program has not asked for one connection.
func (c *conn) clearPinned(ctx context.Context, sc *server.Conn) error {
	if c.pinned == nil || c.backend.Scope == nil || !sc.HasRows() {
		return nil
	}
	return clearRows(ctx, c.db, sc)
}

// clearRows reads all rows into memory that are open on a connection, whose turn the caller has.
func clearRows(ctx context.Context, db *handle, sc *server.Conn) error {
	if !sc.HasRows() {
		return nil
	}
	for _, r := range openOn(sc) {
		if err := r.spillWithin(ctx, db.mustSpill()); err != nil {
			return err
		}
	}
	sc.Settle() // what they had is given up
	return nil
}

// draw draws the connection for the section s, unless it is there.
func (p *pin) draw(ctx context.Context, s *section) error {
	if p.drawn.Conn != nil {
		return nil
	}
	id := s.locks.Identity()
	p.slot.Work, p.slot.Owner, p.slot.With = &p.section.locks, id.LockOwner(), p.waits.link(id.LockOwner())
	w := s.db.wait()
	w.Timeout, w.Stats, w.Turn = s.db.connTimeout, &s.db.connWaits, id.User
	var err error
	if s.backend.Servers.Slots == nil {
		p.drawn, err = s.backend.Servers.ConnectFor(ctx, id.User)
	} else {
		p.drawn, err = s.backend.Servers.Draw(ctx, &p.slot, w)
	}
	if p.drawn.Conn != nil {
		p.drawn.Conn.Pinned = true
	}
	return s.db.connectError(err)
}

// releaseReach gives up what the section has beyond the process.
func (s *section) releaseReach() {
	if g := s.grant; g != nil {
		s.grant = nil
		g.Release()
	}
}

// leaveReach is for a section that is about to give up its locks.
func (s *section) leaveReach() {
	if g := s.grant; g != nil && s.pin == nil {
		s.grant = nil
		s.outerPin().letGo(g)
	}
}

// whyLost is the error of a call on a pin that has lost its connection.
func (p *pin) whyLost() error {
	if p.section.backend.Scope != nil {
		return ErrLockLost
	}
	return errPinLost
}
