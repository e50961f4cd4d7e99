package scope

import (
	"context"
	"hash/maphash"
	"sync/atomic"
	"time"

	"github.com/calmdocs/dblocker/internal/server"
)

// A Fold is an ask of a single statement, which the driver may be able to make in the message of the statement.
type Fold struct {
	scope *Scope
	ask   Ask
	grant *Grant // that it is to have
	left  *Grant // that rested on the connection, and is given up before; nil if nothing
}

// Fold begins an ask on a connection that may be folded; else it returns nil. If there is nothing to ask, since the call goes on under a lock
// that rests there, it returns what the call has.
func (s *Scope) Fold(sc *server.Conn, a Ask) (*Fold, *Grant) {
	if a.InTx || a.Wait <= 0 || !sc.Folds() || s.contended.is(a.Users[0]) || len(s.inTheWay(sc, a)) > 0 {
		return nil, nil
	}
	f := &Fold{s, a, s.grant(sc, a), s.takeLeft(sc, false)}
	if f.grant.goesOn(f.left) {
		return nil, f.grant
	}
	return f, nil
}

// Owe has the connection make it with the statement. got is called when the lock is had, and ask is to make it by itself, by Take.
func (f *Fold) Owe(got func(*Grant), ask func(context.Context) error, explain func(context.Context, error) error) {
	f.grant.conn.Owe(&server.Owed{
		Locks: f.grant.locks,
		Left:  f.left.wanted(),
		Got:   func() { got(f.enter()) },
		Acquire: func(ctx context.Context, leftGone bool) error {
			if leftGone {
				f.scope.contended.note(f.ask.Users[0])
				f.left.goneWith()
				f.left = nil
			}
			return ask(ctx)
		},
		Failed:  func(ctx context.Context, err error) error { return explain(ctx, failed(f.grant.conn, f.left, err)) },
		Dropped: f.left.drop,
	})
}

// Take makes the ask by itself, as Scope.Take.
func (f *Fold) Take(ctx context.Context, wait time.Duration) (*Grant, error) {
	if err := f.scope.engine.Acquire(ctx, f.grant.conn, f.grant.locks, f.left.wanted(), wait, false); err != nil {
		return nil, failed(f.grant.conn, f.left, err)
	}
	return f.enter(), nil
}

func (f *Fold) enter() *Grant {
	f.left.goneWith()
	f.grant.enter()
	return f.grant
}

// contended tells when somebody else had the lock of a user, in milliseconds. Users share its slots. For contendedTime after that the
// statements of the user do not ask for the lock themselves: one that does so in vain fails at the server, which logs it.
type contended [256]atomic.Int64

const contendedTime = time.Second

var seed = maphash.MakeSeed()

func (c *contended) slot(user string) *atomic.Int64 {
	return &c[maphash.String(seed, user)%uint64(len(c))]
}

func (c *contended) is(user string) bool {
	return time.Since(time.UnixMilli(c.slot(user).Load())) < contendedTime
}

func (c *contended) note(user string) { c.slot(user).Store(time.Now().UnixMilli()) }
