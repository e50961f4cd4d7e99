package dblocker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// lock decides what an operation on c needs, and takes it. By itself the
// operation would take a hold of the given kind and mode for its user; h becomes
// that hold, or stays idle if the operation needs none.
func (c *conn) lock(ctx context.Context, h *rwlock.Hold, kind rwlock.Kind, mode Mode) error {
	mode, err := modeFrom(ctx, mode)
	if err != nil {
		return err
	}
	if c.tx != nil && c.tx.tagged {
		return c.tx.lock(ctx, identity{}, mode)
	}
	id, err := c.db.identify(ctx)
	if err != nil {
		return err
	}
	if c.tx != nil {
		return c.tx.lock(ctx, id, mode)
	}
	if id.user == "" {
		return nil
	}
	return c.acquire(ctx, h, kind, mode, id)
}

// acquire takes the lock of the user id into h.
func (c *conn) acquire(ctx context.Context, h *rwlock.Hold, kind rwlock.Kind, mode Mode, id identity) error {
	h.Owner, h.Kind = id.owner, kind
	err := c.pool.users.users.Acquire(ctx, id.user, rwlock.Mode(mode), h, c.db.wait())
	if err == nil {
		return nil
	}
	return lockError(err, id.user)
}

// identify returns the user of an operation, or none as far as the handle
// allows that.
func (c *Connector) identify(ctx context.Context) (identity, error) {
	id, ok := identityFrom(ctx)
	if ok {
		return id, id.err
	}
	switch c.untagged {
	case ErrorUntagged:
		return identity{}, ErrNoUser
	case WarnUntagged:
		c.calls.warnOnce(c.logger)
	}
	return identity{}, nil
}

// modeOf returns the mode of a Query: shared only if its text is known to read.
func (c *Connector) modeOf(query string) Mode {
	if c.texts.Classify(query).Kind == sqltext.Read {
		return Shared
	}
	return Exclusive
}

// limitStatement gives a statement's context its deadline where the server knows
// no statement_timeout. The cancel function is nil where there is none.
func (c *Connector) limitStatement(ctx context.Context) (context.Context, context.CancelFunc) {
	if c.statementTimeout == 0 || c.dialect.limitStatements != nil {
		return ctx, nil
	}
	return context.WithTimeout(ctx, c.statementTimeout)
}

// lockError puts the end of a wait for a user's lock in the terms of a user of
// dblocker.
func lockError(err error, user string) error {
	return waitError(err, user, func(w *rwlock.WaitError) string {
		return fmt.Sprintf("the %v lock of user %q", w.Mode, user)
	})
}

// connectError does the same for the wait for a server connection, and keeps
// passwords out of the inner driver's errors.
func (c *Connector) connectError(err error) error {
	if err == nil {
		return nil
	}
	var w *rwlock.WaitError
	if errors.As(err, &w) {
		return waitError(err, "", func(w *rwlock.WaitError) string {
			return fmt.Sprintf("one of the %d server connections that max_open_conns allows", c.limits.maxOpenConns)
		})
	}
	if c.dsn != nil {
		return withoutSecrets(err, *c.dsn)
	}
	return err
}

func waitError(err error, user string, what func(*rwlock.WaitError) string) error {
	var w *rwlock.WaitError
	if !errors.As(err, &w) {
		return err // the context was done before there was anything to wait for
	}
	switch w.Err {
	case rwlock.ErrClosed:
		return errClosed
	case rwlock.ErrTimeout:
		err = ErrLockTimeout
	default:
		err = w.Err
	}
	return &LockError{
		User:    user,
		Mode:    Mode(w.Mode),
		Waited:  w.Waited,
		Err:     err,
		what:    what(w),
		blocker: describeBlocker(w.Blocker),
	}
}

// describeBlocker says in a few words what was in the way.
func describeBlocker(b rwlock.Info) string {
	what := b.Kind.String()
	if b.Tag != "" {
		what = fmt.Sprintf("%s %q", what, b.Tag)
	}
	verb := "has held it"
	if b.Waiting {
		verb = "came before and has waited"
	}
	return fmt.Sprintf("%s, which %s (%v) for %v", what, verb, b.Mode, b.For.Round(time.Millisecond))
}
