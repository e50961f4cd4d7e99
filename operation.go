package dblocker

import (
	"context"
	"errors"

	"github.com/calmdocs/dblocker/internal/callers"
	"github.com/calmdocs/dblocker/internal/locks"
)

// An operation is what a call on a client connection works for: whose it is, in which section,
// and in which mode. It is read from the context once, when the call enters, and handed down.
// It never changes.
type operation struct {
	ctx     context.Context // of the call
	section *section        // the innermost, of those in the lock table of the connection, that it is inside; nil if in none
	pin     *pin            // whose connection it has to use; nil if it has none
	id      locks.Identity  // the user and the owner, as far as they are known
	tagged  bool            // the context says whose it is
	outside bool            // the context is not inside the section that the connection is bound to
	mode    askedMode
	called  callers.Entry // for an Exec that may be combined with others: see noteEntry
}

// operation reads what a call with ctx works for.
func (c *conn) operation(ctx context.Context) operation {
	m := marksFrom(ctx)
	op := operation{ctx: ctx, mode: m.mode}
	s := m.section
	if c.bound != nil && !s.isInside(c.bound) {
		s, op.outside = c.bound, true
	}
	for s != nil && s.backend.Users != c.backend.Users {
		s = s.outer
	}
	op.section, op.pin = s, c.pinOf(s)
	if c.bound != nil {
		op.id, op.tagged = *s.locks.Identity(), true
	} else {
		op.id, op.tagged = m.identity(ctx)
	}
	return op
}

// background is the operation of a call without a context.
func (c *conn) background() operation { return c.operation(context.Background()) }

// An askedMode is what WithMode asks for.
type askedMode uint8

const (
	askedNone askedMode = iota
	askedShared
	askedExclusive
	askedUnknown
)

func askedModeOf(mode Mode) askedMode {
	switch mode {
	case Shared:
		return askedShared
	case Exclusive:
		return askedExclusive
	}
	return askedUnknown
}

// or returns the mode that was asked for, or else the given one.
func (a askedMode) or(mode Mode) (Mode, error) {
	switch a {
	case askedNone:
		return mode, nil
	case askedShared:
		return Shared, nil
	case askedExclusive:
		return Exclusive, nil
	}
	return mode, errUnknownMode
}

var errUnknownMode = errors.New("dblocker: WithMode was given an unknown mode; use dblocker.Shared or dblocker.Exclusive")
