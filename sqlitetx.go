package dblocker

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"

	"github.com/calmdocs/dblocker/internal/sqltext"
)

// A sqliteTx is a transaction of a SQLite connection. The drivers' own begin as
// the DSN says, all alike; here one that writes begins immediate, so that it has
// SQLite's write lock before it reads, and one that is read-only cannot write.
type sqliteTx struct {
	sc *serverConn

	// guarded tells that the connection refuses to write, and has to be told
	// when the transaction ends that it need not any more.
	guarded bool
}

// beginSQLite begins a transaction. As in the drivers, isolation levels mean
// nothing: SQLite's transactions are serializable.
func beginSQLite(ctx context.Context, sc *serverConn, opts driver.TxOptions) (driver.Tx, error) {
	tx := &sqliteTx{sc: sc}
	if !opts.ReadOnly {
		return tx, tx.run(ctx, "BEGIN IMMEDIATE")
	}
	if err := tx.guard(ctx); err != nil {
		return nil, err
	}
	if err := tx.run(ctx, "BEGIN"); err != nil {
		tx.unguard()
		return nil, err
	}
	return tx, nil
}

// run executes a BEGIN. A driver may report the end of the context although the
// transaction has begun.
func (tx *sqliteTx) run(ctx context.Context, begin string) error {
	_, err := tx.sc.ExecContext(ctx, begin, nil)
	if err != nil && ctx.Err() != nil {
		tx.exec("ROLLBACK")
	}
	return err
}

// exec executes a statement that ends with the transaction, and is not to be
// cut short with its context.
func (tx *sqliteTx) exec(query string) error {
	_, err := tx.sc.ExecContext(context.Background(), query, nil)
	return err
}

func (tx *sqliteTx) guard(ctx context.Context) error {
	answer, err := tx.sc.queryText(ctx, "PRAGMA query_only")
	if err != nil || len(answer) == 1 && answer[0][0] == "1" { // the program's own doing
		return err
	}
	tx.guarded = true
	return tx.exec("PRAGMA query_only = 1")
}

func (tx *sqliteTx) unguard() {
	if tx.guarded && tx.exec("PRAGMA query_only = 0") != nil {
		tx.sc.broken = true
	}
}

// Commit implements [driver.Tx]. SQLite may leave the transaction open when it
// fails; to database/sql it is over.
func (tx *sqliteTx) Commit() error {
	defer tx.unguard()
	err := tx.exec("COMMIT")
	if err != nil {
		tx.exec("ROLLBACK")
	}
	return err
}

// Rollback implements [driver.Tx].
func (tx *sqliteTx) Rollback() error {
	defer tx.unguard()
	return tx.exec("ROLLBACK")
}

// sqliteAutocommit tells whether a connection is in no transaction. Where the
// driver does not tell, a BEGIN does: inside a transaction SQLite refuses it.
func sqliteAutocommit(sc *serverConn) bool {
	if c, ok := sc.ci.(autocommitter); ok {
		return c.AutoCommit()
	}
	probe := &sqliteTx{sc: sc}
	if err := probe.exec("BEGIN"); err != nil {
		return !strings.Contains(err.Error(), "within a transaction")
	}
	probe.Commit()
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
	if autocommit == nil || err == nil || s.lost != nil || sc == nil || sc.broken {
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
