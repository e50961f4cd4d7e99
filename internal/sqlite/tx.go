package sqlite

import (
	"context"
	"database/sql/driver"
	"strings"

	"github.com/calmdocs/dblocker/internal/server"
)

// A tx is a transaction of a SQLite connection. The drivers' own begin as
// the DSN says, all alike; here one that writes begins immediate, so that it has
// SQLite's write lock before it reads, and one that is read-only cannot write.
type tx struct {
	sc    *server.Conn
	guard Guard // set if it is read-only
}

// begin begins a transaction. As in the drivers, isolation levels mean
// nothing: SQLite's transactions are serializable.
func begin(ctx context.Context, sc *server.Conn, opts driver.TxOptions) (driver.Tx, error) {
	tx := &tx{sc: sc, guard: Guard{sc: sc}}
	if !opts.ReadOnly {
		err := tx.run(ctx, "BEGIN IMMEDIATE")
		if Code(err) == CodeReadOnly && isQueryOnly(ctx, sc) {
			err = tx.run(ctx, "BEGIN") // it can only read, as the program has asked for
		}
		return tx, err
	}
	if err := tx.guard.Put(ctx); err != nil {
		return nil, err
	}
	if err := tx.run(ctx, "BEGIN"); err != nil {
		tx.guard.Lift()
		return nil, err
	}
	return tx, nil
}

// isQueryOnly tells whether the program has made the connection refuse to write.
func isQueryOnly(ctx context.Context, sc *server.Conn) bool {
	set, err := Pragma(ctx, sc, "query_only")
	return err == nil && set == "1"
}

// run executes a BEGIN. A driver may report the end of the context although the
// transaction has begun.
func (tx *tx) run(ctx context.Context, begin string) error {
	_, err := tx.sc.ExecContext(ctx, begin, nil)
	if err != nil && ctx.Err() != nil {
		finish(tx.sc, "ROLLBACK")
	}
	return err
}

// Commit implements [driver.Tx]. SQLite may leave the transaction open when it
// fails; to database/sql it is over.
func (tx *tx) Commit() error {
	defer tx.guard.Lift()
	err := finish(tx.sc, "COMMIT")
	if err != nil {
		finish(tx.sc, "ROLLBACK")
	}
	return err
}

// Rollback implements [driver.Tx].
func (tx *tx) Rollback() error {
	defer tx.guard.Lift()
	return finish(tx.sc, "ROLLBACK")
}

// finish executes a statement that ends with a transaction, and is not to be
// cut short with its context.
func finish(sc *server.Conn, query string) error {
	_, err := sc.ExecContext(context.Background(), query, nil)
	return err
}

// A Guard makes a connection refuse to write while a transaction lasts that may only
// read.
type Guard struct {
	sc  *server.Conn
	set bool // by us; else there is nothing to lift
}

func NewGuard(sc *server.Conn) *Guard { return &Guard{sc: sc} }

func (g *Guard) IsOn(sc *server.Conn) bool { return g.sc == sc }

func (g *Guard) Put(ctx context.Context) error {
	answer, err := g.sc.QueryText(ctx, "PRAGMA query_only")
	if err != nil || len(answer) == 1 && answer[0][0] == "1" { // the program's own doing
		return err
	}
	g.set = true
	return finish(g.sc, "PRAGMA query_only = 1")
}

func (g *Guard) Lift() {
	if g.set && finish(g.sc, "PRAGMA query_only = 0") != nil {
		g.sc.Fail()
	}
	g.set = false
}

// autocommit tells whether a connection is in no transaction. Where the
// driver does not tell, a BEGIN does: inside a transaction SQLite refuses it.
func autocommit(sc *server.Conn) bool {
	if none, told := Autocommit(sc.Inner()); told {
		return none
	}
	if err := finish(sc, "BEGIN"); err != nil {
		return !strings.Contains(err.Error(), "within a transaction")
	}
	(&tx{sc: sc}).Commit()
	return true
}

// Autocommit tells whether a connection of a driver is in no transaction, if the driver tells,
// as mattn/go-sqlite3 does.
func Autocommit(ci driver.Conn) (none, told bool) {
	c, told := ci.(interface{ AutoCommit() bool })
	return told && c.AutoCommit(), told
}
