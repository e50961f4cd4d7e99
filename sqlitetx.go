package dblocker

import (
	"context"
	"database/sql/driver"
	"strings"

	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqlite"
)

// A sqliteTx is a transaction of a SQLite connection. The drivers' own begin as
// the DSN says, all alike; here one that writes begins immediate, so that it has
// SQLite's write lock before it reads, and one that is read-only cannot write.
type sqliteTx struct {
	sc    *server.Conn
	guard sqliteGuard // set if it is read-only
}

// beginSQLite begins a transaction. As in the drivers, isolation levels mean
// nothing: SQLite's transactions are serializable.
func beginSQLite(ctx context.Context, sc *server.Conn, opts driver.TxOptions) (driver.Tx, error) {
	tx := &sqliteTx{sc: sc, guard: sqliteGuard{sc: sc}}
	if !opts.ReadOnly {
		err := tx.run(ctx, "BEGIN IMMEDIATE")
		if sqlite.Code(err) == sqlite.CodeReadOnly && isQueryOnly(ctx, sc) {
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
func isQueryOnly(ctx context.Context, sc *server.Conn) bool {
	set, err := pragmaOf(ctx, sc, "query_only")
	return err == nil && set == "1"
}

// run executes a BEGIN. A driver may report the end of the context although the
// transaction has begun.
func (tx *sqliteTx) run(ctx context.Context, begin string) error {
	_, err := tx.sc.ExecContext(ctx, begin, nil)
	if err != nil && ctx.Err() != nil {
		finish(tx.sc, "ROLLBACK")
	}
	return err
}

// Commit implements [driver.Tx]. SQLite may leave the transaction open when it
// fails; to database/sql it is over.
func (tx *sqliteTx) Commit() error {
	defer tx.guard.lift()
	err := finish(tx.sc, "COMMIT")
	if err != nil {
		finish(tx.sc, "ROLLBACK")
	}
	return err
}

// Rollback implements [driver.Tx].
func (tx *sqliteTx) Rollback() error {
	defer tx.guard.lift()
	return finish(tx.sc, "ROLLBACK")
}

// finish executes a statement that ends with a transaction, and is not to be
// cut short with its context.
func finish(sc *server.Conn, query string) error {
	_, err := sc.ExecContext(context.Background(), query, nil)
	return err
}

// A sqliteGuard makes a connection refuse to write while a transaction lasts that may only
// read.
type sqliteGuard struct {
	sc  *server.Conn
	set bool // by us; else there is nothing to lift
}

func (g *sqliteGuard) put(ctx context.Context) error {
	answer, err := g.sc.QueryText(ctx, "PRAGMA query_only")
	if err != nil || len(answer) == 1 && answer[0][0] == "1" { // the program's own doing
		return err
	}
	g.set = true
	return finish(g.sc, "PRAGMA query_only = 1")
}

func (g *sqliteGuard) lift() {
	if g.set && finish(g.sc, "PRAGMA query_only = 0") != nil {
		g.sc.Fail()
	}
	g.set = false
}

// sqliteAutocommit tells whether a connection is in no transaction. Where the
// driver does not tell, a BEGIN does: inside a transaction SQLite refuses it.
func sqliteAutocommit(sc *server.Conn) bool {
	if none, told := sqlite.Autocommit(sc.Inner()); told {
		return none
	}
	if err := finish(sc, "BEGIN"); err != nil {
		return !strings.Contains(err.Error(), "within a transaction")
	}
	(&sqliteTx{sc: sc}).Commit()
	return true
}
