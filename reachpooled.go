package dblocker

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/postgres"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/scope"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// Behind a pooler that may run each transaction in another session of the server, a session keeps nothing for its client, and the engine's lock is one of a
// transaction. A transaction has it from its BEGIN. A statement by itself runs in a transaction of its own, which is committed before the program hears of
// it: see scope.Grant.Commit. What needs a session for longer is refused.

// isPooled tells whether the handle is behind such a pooler.
func (c *config) isPooled() bool { return c.pooler == TransactionPooler && c.engine.PooledLocks != nil }

// openInner makes the inner connector.
func (c *config) openInner(inner driver.Driver, dsn string) (driver.Connector, error) {
	if c.isPooled() {
		dsn = c.engine.PooledDSN(inner, dsn)
	}
	logger := c.logger
	if c.onceLogger != nil {
		logger = c.onceLogger
	}
	return c.engine.Open(logger, inner, dsn)
}

// isPerTx tells whether the engine's locks are those of transactions.
func (c *conn) isPerTx() bool { return c.backend.Scope != nil && c.backend.Scope.PerTx() }

var (
	errPooledSection = errors.New("dblocker: with pooler=transaction there are no sections, LockUsers, LockAll or Store handles that reach to other processes, as the session of a connection is another one " +
		"after each transaction: do it in one Tx, or connect to the server itself, or by a pooler with a session for each client (pooler=session)")
	errPooledRaw     = errors.New("dblocker: with pooler=transaction a user's transaction is begun with BeginTx, and not in SQL: its BEGIN is to ask for the lock")
	errPooledSeveral = errors.New("dblocker: with pooler=transaction a text of several statements runs in one transaction, so it must not begin or end any: use BeginTx")
)

// refusePooled refuses what would not be under the lock of its user, or would end it.
func (c *conn) refusePooled(adm *admission, h *locks.Hold) error {
	st := adm.Statement
	raw := adm.raw != nil && adm.raw.from == nil
	switch {
	case raw && adm.raw.hold.User != "":
		return errPooledRaw
	case raw, h.User == "", c.transactionOnServer() != nil:
		return nil
	case st.Multi && (st.MayBegin || st.MayEnd || endsOrBegins(st.Kind)):
		return errPooledSeveral
	}
	return nil
}

func endsOrBegins(k sqltext.Kind) bool {
	switch k {
	case sqltext.Begin, sqltext.Commit, sqltext.Rollback, sqltext.Savepoint, sqltext.Release:
		return true
	}
	return false
}

// beginBeside begins a transaction for a statement that has no lock of its own.
func (c *conn) beginBeside(ctx context.Context, under *scope.Use, sc *server.Conn) error {
	if !c.isPerTx() || c.transactionOnServer() != nil {
		return nil
	}
	return under.BeginBeside(ctx, sc)
}

// An aloneTx is the transaction of a statement by itself. See scope.Grant.Commit.
type aloneTx interface {
	Commit(context.Context) error
	Rollback(context.Context)
}

// aloneTx returns that of a statement; nil if it has none.
func (c *conn) aloneTx(h *locks.Hold) aloneTx {
	if !c.isPerTx() || c.transaction != nil {
		return nil
	}
	switch r := h.Reach.(type) {
	case *scope.Grant:
		if r.Kind() == rwlock.Leaf || r.Kind() == rwlock.Rows {
			return r
		}
	case *scope.Use:
		if r.HasBegun() {
			return r
		}
	}
	return nil
}

// commitAlone commits what an Exec has written.
func (c *conn) commitAlone(ctx context.Context, h *locks.Hold) error {
	if tx := c.aloneTx(h); tx != nil {
		return tx.Commit(ctx)
	}
	return nil
}

// inBlock is the SQLSTATE of a statement that may not run in a transaction.
const inBlock = "25001"

// explainAlone says of an error of the server what the program cannot know: that the statement ran in a transaction.
func (c *conn) explainAlone(h *locks.Hold, err error) error {
	if err == nil || c.aloneTx(h) == nil || postgres.SQLState(err) != inBlock {
		return err
	}
	return fmt.Errorf("%w (with pooler=transaction a user's statement runs in a transaction: do this without a user, or connect to the server itself)", err)
}

// completeAlone reads the rows of a statement that may write into memory, and commits it, so that Query tells whether it was.
func (c *conn) completeAlone(ctx context.Context, adm *admission, r *rows) error {
	tx := c.aloneTx(&r.hold.Hold)
	if mode, _ := r.hold.Lock.HeldMode(); tx == nil || mode == rwlock.Shared {
		return nil
	}
	err := c.complete(ctx, tx, r)
	if err != nil {
		if !r.IsClosed() {
			r.Rows.Close()
		}
		c.settle(adm, err)
	}
	return err
}

func (c *conn) complete(ctx context.Context, tx aloneTx, r *rows) error {
	if err := c.readAll(ctx, r); err != nil {
		tx.Rollback(context.WithoutCancel(ctx))
		return err
	}
	if r.Failure() != nil { // which the rows tell, and it is rolled back
		return nil
	}
	return tx.Commit(ctx)
}

// readAll reads rows into memory, which are not open for the program yet, and closes them at the server.
func (c *conn) readAll(ctx context.Context, r *rows) error {
	limit := c.db.mustSpill()
	if r.Fill(limit, func() bool { return ctx.Err() != nil }) == server.FillDone {
		r.shutNow()
		return nil
	}
	r.Rows.Close()
	if err := ctx.Err(); err != nil {
		return err
	}
	return exceeded(limit)
}

// errEndedBeside is of a statement beside a transaction of its request, which has ended meanwhile. A query that only reads is made again.
var errEndedBeside = fmt.Errorf("%w: with pooler=transaction a statement has no lock any more when the transaction of its request has ended that it ran beside", ErrLockLost)

// readsAgain tells whether a query that ended with err is made again, under a lock of its own.
func (c *conn) readsAgain(query string, err error) bool {
	return err != nil && errors.Is(err, errEndedBeside) && c.transaction == nil && c.db.texts.Classify(query).Kind == sqltext.Read
}
