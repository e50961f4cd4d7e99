package dblocker

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"

	"github.com/calmdocs/dblocker/internal/sqlite"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// A sqliteTx is a transaction of a SQLite connection. The drivers' own begin as
// the DSN says, all alike; here one that writes begins immediate, so that it has
// SQLite's write lock before it reads, and one that is read-only cannot write.
type sqliteTx struct {
	sc    *serverConn
	guard sqliteGuard // set if it is read-only
}

// beginSQLite begins a transaction. As in the drivers, isolation levels mean
// nothing: SQLite's transactions are serializable.
func beginSQLite(ctx context.Context, sc *serverConn, opts driver.TxOptions) (driver.Tx, error) {
	tx := &sqliteTx{sc: sc, guard: sqliteGuard{sc: sc}}
	if !opts.ReadOnly {
		err := tx.run(ctx, "BEGIN IMMEDIATE")
		if sqlite.Code(err) == sqlite.CodeReadOnly && sc.isQueryOnly(ctx) {
			err = tx.run(ctx, "BEGIN") // it can only read, as the program has asked for
		}
		return tx, err
	}
	if err := tx.guard.put(ctx); err != nil {
		return nil, err
	}
	if err := tx.run(ctx, "BEGIN"); err != nil {
		tx.guard.lift()
		return nil, err
	}
	return tx, nil
}

// isQueryOnly tells whether the program has made the connection refuse to write.
func (sc *serverConn) isQueryOnly(ctx context.Context) bool {
	set, err := sc.pragma(ctx, "query_only")
	return err == nil && set == "1"
}

// run executes a BEGIN. A driver may report the end of the context although the
// transaction has begun.
func (tx *sqliteTx) run(ctx context.Context, begin string) error {
	_, err := tx.sc.ExecContext(ctx, begin, nil)
	if err != nil && ctx.Err() != nil {
		tx.sc.finish("ROLLBACK")
	}
	return err
}

// Commit implements [driver.Tx]. SQLite may leave the transaction open when it
// fails; to database/sql it is over.
func (tx *sqliteTx) Commit() error {
	defer tx.guard.lift()
	err := tx.sc.finish("COMMIT")
	if err != nil {
		tx.sc.finish("ROLLBACK")
	}
	return err
}

// Rollback implements [driver.Tx].
func (tx *sqliteTx) Rollback() error {
	defer tx.guard.lift()
	return tx.sc.finish("ROLLBACK")
}

// finish executes a statement that ends with a transaction, and is not to be
// cut short with its context.
func (sc *serverConn) finish(query string) error {
	_, err := sc.ExecContext(context.Background(), query, nil)
	return err
}

// A sqliteGuard makes a connection refuse to write while a transaction lasts that may only
// read.
type sqliteGuard struct {
	sc  *serverConn
	set bool // by us; else there is nothing to lift
}

func (g *sqliteGuard) put(ctx context.Context) error {
	answer, err := g.sc.queryText(ctx, "PRAGMA query_only")
	if err != nil || len(answer) == 1 && answer[0][0] == "1" { // the program's own doing
		return err
	}
	g.set = true
	return g.sc.finish("PRAGMA query_only = 1")
}

func (g *sqliteGuard) lift() {
	if g.set && g.sc.finish("PRAGMA query_only = 0") != nil {
		g.sc.broken = true
	}
	g.set = false
}

// sqliteAutocommit tells whether a connection is in no transaction. Where the
// driver does not tell, a BEGIN does: inside a transaction SQLite refuses it.
func sqliteAutocommit(sc *serverConn) bool {
	if c, ok := sc.ci.(autocommitter); ok {
		return c.AutoCommit()
	}
	if err := sc.finish("BEGIN"); err != nil {
		return !strings.Contains(err.Error(), "within a transaction")
	}
	(&sqliteTx{sc: sc}).Commit()
	return true
}

// noticeLoss looks, after a statement of the scope has failed with err, whether
// SQLite has rolled the scope's transaction back, as it does when it interrupts a
// write. The program does not know of that, and what it did next would be written at
// once, each statement by itself: so the scope refuses it.
//
// A transaction in SQL ends so too when the program has written that it should
// (INSERT OR ROLLBACK); then only an interruption is a loss.
func (s *scope) noticeLoss(st sqltext.Statement, err error) {
	c := s.conn
	autocommit := c.db.dialect.autocommit
	sc := c.drawn.sc
	if autocommit == nil || err == nil || s.lost != nil || s.pending != nil || sc == nil || sc.broken {
		return
	}
	switch st.Kind {
	case sqltext.Begin, sqltext.Commit, sqltext.Rollback, sqltext.Release:
		return // the program's own doing
	}
	if s.inSQL() && !interrupted(err) || errors.Is(err, driver.ErrBadConn) || !autocommit(sc) {
		return
	}
	s.lost = lossOf(err)
}

func lossOf(err error) error { return fmt.Errorf("%w: %w", ErrRolledBack, err) }

// inSQL tells whether the scope is a transaction that is written in SQL.
func (s *scope) inSQL() bool { return s.conn.raw != nil && s == &s.conn.raw.scope }

// interrupted tells whether a statement failed because its context ended, or because
// somebody called sqlite3_interrupt.
func interrupted(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		strings.Contains(err.Error(), "interrupted")
}

// explainReadOnly makes ErrReadOnly of what SQLite says to a write that could not
// be told by its text.
func (s *scope) explainReadOnly(err error) error {
	if s != nil && s.readOnly && s.conn.pool.gate != nil && strings.Contains(err.Error(), "attempt to write a readonly database") {
		return fmt.Errorf("%w (%w)", ErrReadOnly, err)
	}
	return err
}
