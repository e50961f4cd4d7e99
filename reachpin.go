package dblocker

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/scope"
	"github.com/calmdocs/dblocker/internal/server"
)

// What a pinned connection does about the locks of the engine that it has: it looks whether they are lost, and gives them up when it goes back.

// watchEvery is how soon a section learns that its connection is lost, while no call is running in it.
const watchEvery = 500 * time.Millisecond

// watch begins to look whether the connection is lost. Who looks is no member of the section, so that it does not seem to be busy.
func (p *pin) watch(sc *server.Conn) {
	ended := p.section.backend.Scope.Watch(sc)
	if ended == nil {
		return
	}
	p.reach.mu.Lock()
	defer p.reach.mu.Unlock()
	p.reach.watch = time.AfterFunc(watchEvery, func() { p.look(ended) })
}

// look looks, unless a call has the turn, which sees for itself.
func (p *pin) look(ended func() (ended, known bool)) {
	if p.turn.tryLock() {
		defer (*host)(p.section).Contain(p.section.locks.SweepDue)
		defer p.releaseDue()
		defer p.turn.unlock()
		p.lookNow(ended)
	}
	p.reach.mu.Lock()
	defer p.reach.mu.Unlock()
	if !p.reach.over {
		p.reach.watch.Reset(watchEvery)
	}
}

// lookNow looks unless the connection has gone back, which needs no turn.
func (p *pin) lookNow(ended func() (ended, known bool)) {
	p.reach.mu.Lock()
	defer p.reach.mu.Unlock()
	if p.reach.over || p.lost || p.drawn.Conn == nil || p.drawn.Conn.HasRows() { // these may have something to be read
		return
	}
	if is, known := ended(); is && known {
		p.drawn.Conn.Fail()
		p.lose()
	}
}

// close ends the watch over the connection, which is going back.
func (r *pinReach) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	if r.watch != nil {
		r.watch.Stop()
	}
}

// letGo gives up what a section inside has taken on the connection, or leaves that to who has the turn.
func (p *pin) letGo(g *scope.Grant) {
	p.reach.mu.Lock()
	p.reach.due = append(p.reach.due, g)
	p.reach.mu.Unlock()
	p.releaseDue()
}

// releaseDue does what letGo has left, if nobody has the turn.
func (p *pin) releaseDue() {
	if p.section.backend.Scope == nil {
		return
	}
	for p.reach.hasDue() && p.turn.tryLock() {
		p.endRows()
		p.reach.releaseAll()
		p.turn.unlock()
		p.section.locks.SweepDue()
	}
	for p.reach.hasUnused() && p.turn.tryLock() {
		done := p.giveUpKept()
		p.turn.unlock()
		p.section.locks.SweepDue()
		if !done {
			return
		}
	}
}

// Unused implements [scope.Keeper].
func (p *pin) Unused() {
	p.reach.mu.Lock()
	p.reach.unused = true
	p.reach.mu.Unlock()
	go (*host)(p.section).Contain(p.releaseDue) // which may wait for the server
}

// giveUpKept reports false if that has to wait for rows, whose end calls releaseDue again. The connection may go back without the turn, but not
// meanwhile.
func (p *pin) giveUpKept() (done bool) {
	p.reach.mu.Lock()
	defer p.reach.mu.Unlock()
	if p.reach.over || p.drawn.Conn == nil {
		p.reach.unused = false // whoever has it now sees to that
		return true
	}
	if p.drawn.Conn.HasRows() {
		return false
	}
	p.reach.unused = false
	p.drawn.Conn.GiveUpKept()
	return true
}

func (r *pinReach) hasUnused() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.unused
}

// endRows makes way on the connection for what gives up locks, which cannot be refused.
func (p *pin) endRows() {
	if sc := p.drawn.Conn; sc != nil && sc.HasRows() {
		if err := clearRows(context.Background(), p.section.db, sc); err != nil {
			for _, r := range openOn(sc) {
				r.end(err)
			}
		}
	}
}

func (r *pinReach) hasDue() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.due) > 0
}

func (r *pinReach) releaseAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range r.due {
		g.Release()
	}
	r.due = nil
}

// closeReaching is close for a connection that has locks of the engine. Nobody waits for the server to give them up: that
// done, it goes back.
func (p *pin) closeReaching(d server.Lease) {
	p.reach.releaseAll()
	d.Conn.Pinned = false
	p.section.releaseReach()
	if d.Conn.TryWake(); !d.Conn.IsSettling() && !d.Conn.HasKept() { // it rests
		defer p.slot.Release()
		d.Conn.EndTx()
		d.GiveBack()
		return
	}
	slot := &rwlock.Hold{Kind: rwlock.Leaf}
	p.slot.Move(slot)
	d.Conn.Later(func() {
		defer slot.Release()
		d.Conn.AwaitKept()
		d.Conn.EndTx()
		d.GiveBack()
	})
}

// noteLoss is for a connection that is being closed: its locks are gone, and so the section ends that has them.
func (p *pin) noteLoss(sc *server.Conn) {
	if sc.Locked != 0 {
		p.lose()
	}
}

// noteLoss looks, after a call of the driver on the pinned connection has failed with err, whether that is lost.
func (c *conn) noteLoss(sc *server.Conn, err error) error {
	if sc.Locked == 0 || sc.HasRows() || !sc.HasFailed() && !sc.IsLost() {
		return err
	}
	c.pinned.lose()
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err // the caller's own
	}
	if errors.Is(err, driver.ErrBadConn) { // which database/sql would try again, without the lock; lib/pq also says so of what was sent
		return fmt.Errorf("%w: %v", ErrLockLost, err)
	}
	return fmt.Errorf("%w: %w", ErrLockLost, err)
}

// lose ends the section, whose connection is lost. The caller has the turn.
func (p *pin) lose() {
	if p.lost {
		return
	}
	p.lost = true
	s := p.section
	if s.grant != nil {
		s.grant.Forget()
	}
	if !s.hasEnded() { // else it gives its locks up anyway
		s.db.observers.tellLockLost(s, s.locks.Identity().User, rwlock.Section)
	}
	go (*host)(s).Contain(func() { s.locks.End(ErrLockLost) })
}
