package server

import (
	"context"

	"github.com/calmdocs/dblocker/internal/sqltext"
)

// Folded is what became of a statement and of the locks that were asked for in one message.
type Folded int

const (
	NotFolded   Folded = iota // nothing was sent, or nothing done
	NotHad                    // somebody else has a lock: the session has none, and what was left it has given up
	HadOnly                   // the session has the locks, and the statement is to be run
	HadAndRan                 // the statement has come to what it came to
	FoldFailure               // nobody knows: the connection is of no more use
)

// An Owed is what the session of a connection has to have before it runs a statement, and is asked for with that if it can be.
type Owed struct {
	Locks []WantedLock
	Left  []WantedLock // to be given up before

	Got     func()                                         // they are had
	Acquire func(ctx context.Context, leftGone bool) error // asks for them by themselves
	Failed  func(context.Context, error) error             // Exec or Query has failed to ask
	Dropped func()                                         // nothing was sent
}

// Owe has the next statement that is sent by the connection ask for locks first, or with it. Settled is to follow.
func (sc *Conn) Owe(o *Owed) { sc.owed = o }

// Settled tells that the statement was sent, or is not going to be.
func (sc *Conn) Settled() {
	if o := sc.owed; o != nil {
		sc.owed = nil
		o.Dropped()
	}
}

// Folds tells whether statements can be folded with the locks that they need, on the connection.
func (sc *Conn) Folds() bool {
	l := sc.cfg.Locks()
	return l.Folds != nil && l.Folds(sc)
}

// fold runs a statement with what is owed. If it is not done, it is to be run: what is owed is had by then, or will be before.
func (sc *Conn) fold(ctx context.Context, s *Call, run func(*Locks, *Owed) (Folded, error)) (done bool, err error) {
	o := sc.owed
	if !s.isKeepable(sqltext.SettlesNothing) || s.hasNames() || s.InTx || sc.LeavesRows(s) {
		return false, nil
	}
	sc.owed = nil
	f, err := run(sc.cfg.Locks(), o)
	switch f {
	case HadOnly, HadAndRan:
		o.Got()
		return f == HadAndRan, err
	case FoldFailure:
		return true, o.Failed(ctx, err)
	}
	if err := o.Acquire(ctx, f == NotHad); err != nil {
		return true, err
	}
	return false, nil
}

// isDue tells whether there is something to be done before anything is sent by the connection: a lock is to be given up, or
// asked for.
func (sc *Conn) isDue() bool { return sc.owed != nil || sc.hasRest() }

func (sc *Conn) doDue(ctx context.Context) error {
	if o := sc.owed; o != nil {
		sc.owed = nil
		return o.Acquire(ctx, false)
	}
	sc.giveUpRest()
	return nil
}
