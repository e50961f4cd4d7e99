package dblocker

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/server"
)

// A pin is the one server connection of a section. Client connections that work inside
// the section attach to it instead of drawing one of their own, and are then members
// of the section until they detach.
type pin struct {
	section *section

	turn   turn         // held during each call on the server connection; guards what follows
	wanted atomic.Int32 // so many calls wait for the turn
	drawn  server.Lease // has no sc until the first call
	scope  *scope       // the innermost transaction on it, of one of the client connections that have it; or nil
	slot   rwlock.Hold
	used   bool // somebody had it before; if it is lost then, so is what was set up on it
	lost   bool
}

// A pinUse is what a client connection has of the pinned connections that it comes to use.
type pinUse struct {
	turn     rwlock.Hold  // on that of conn.using
	inPinned locks.Member // in the section of conn.pinned
	inCall   locks.Member // in the section of conn.using, while the call lasts
}

var errPinLost = errors.New("dblocker: the server connection that the section is pinned to was lost, with all that was set up on it; begin a new section")

// pinOf returns the pin that an operation inside the section, which may be nil, has to use; nil
// if it has none.
func (c *conn) pinOf(s *section) *pin {
	for ; s != nil; s = s.outer {
		if s.pin != nil && s.pool == c.pool {
			return s.pin
		}
	}
	return nil
}

// usePin keeps others from the pinned connection until the call on c leaves.
func (c *conn) usePin(ctx context.Context, op *operation, p *pin) error {
	if c.using != nil {
		return nil
	}
	return c.takeTurn(ctx, p, op.id.LockOwner())
}

// attach gives c the pinned connection.
func (p *pin) attach(ctx context.Context, op *operation, c *conn) error {
	if err := c.usePin(ctx, op, p); err != nil {
		return err
	}
	if p.lost {
		return errPinLost
	}
	if err := p.section.locks.Enter(&c.pins.inPinned, &c.resident); err != nil {
		return err
	}
	if p.drawn.Conn == nil {
		defer func() {
			if p.drawn.Conn == nil { // also when the inner driver panics
				c.pins.inPinned.Leave()
			}
		}()
		var err error
		p.slot.Work = &p.section.locks
		if p.drawn, err = c.drawFor(ctx, &p.slot, op.id, p.section.locks.Identity().User); err != nil {
			return c.explainClosed(c.db.connectError(err))
		}
		p.slot.SetOwner(p.section.locks.Identity().LockOwner())
		c.drawn, c.pinned = p.drawn, p
		return nil
	}
	p.used = true
	c.drawn, c.pinned = p.drawn, p
	c.drawn.MayBeStale = false
	return nil
}

// discard closes the connection. One that nobody has used is replaced by the next
// call.
func (p *pin) discard() {
	d := p.drawn
	p.drawn, p.lost = server.Lease{}, p.used
	if d.Conn != nil {
		defer p.slot.Release()
		d.Discard()
	}
}

// close gives the connection back when the section is released. It does not take the turn,
// which the last member may hold who is just leaving: whoever has the turn is a member.
func (p *pin) close() {
	if d := p.drawn; d.Conn != nil {
		p.drawn = server.Lease{}
		defer p.slot.Release()
		d.Conn.EndTx()
		d.GiveBack()
	}
}
