package shared

import (
	"context"
	"database/sql"

	"github.com/jmoiron/sqlx"

	"github.com/calmdocs/dblocker"
)

const insert = "INSERT INTO t VALUES (1)"

func section(ctx context.Context, db *sql.DB, query string) error {
	ctx, unlock, err := dblocker.RLock(ctx, db)
	if err != nil {
		return err
	}
	defer unlock()
	db.QueryRowContext(ctx, "SELECT v FROM t")
	db.QueryRowContext(ctx, "SELECT my_function()") // may write, but nobody knows
	db.ExecContext(ctx, query)
	db.ExecContext(ctx, insert)                                // want `the statement writes, and the section of RLock only reads`
	db.QueryContext(ctx, "WITH x AS (SELECT 1) DELETE FROM t") // want `the statement writes`
	return nil
}

func exclusive(ctx context.Context, db *sql.DB) error {
	ctx, unlock, err := dblocker.Lock(ctx, db)
	if err != nil {
		return err
	}
	defer unlock()
	_, err = db.ExecContext(ctx, insert)
	return err
}

func upgraded(ctx context.Context, db *sql.DB) error {
	rctx, unlock, err := dblocker.RLock(ctx, db)
	if err != nil {
		return err
	}
	db.QueryRowContext(rctx, "SELECT v FROM t")
	unlock()
	_, err = db.ExecContext(ctx, insert)
	return err
}

func byDo(ctx context.Context, db *sql.DB) error {
	return dblocker.RDo(ctx, db, func(ctx context.Context) error {
		_, err := db.ExecContext(ctx, insert) // want `the section of RDo only reads`
		return err
	})
}

func ofStore(ctx context.Context, store *dblocker.Store) error {
	cancel, db, err := store.ReadGetDB("ann", ctx, "x")
	if err != nil {
		return err
	}
	defer cancel()
	db.Exec(insert) // want `the handle of ReadGetDB only reads`
	store.ReadDo("ann", ctx, "x", func(db *sqlx.DB) error {
		_, err := db.Exec(insert) // want `the handle of ReadDo only reads`
		return err
	})
	cancel, rw, err := store.RWGetDB("ann", ctx, "x")
	defer cancel()
	_, err = rw.Exec(insert)
	return err
}

func transaction(ctx context.Context) error {
	db, err := sql.Open("dblocker", "sqlite3:app.db")
	if err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	defer tx.Rollback()
	tx.Exec("CREATE TABLE t (v)") // want `the transaction, which is begun ReadOnly, only reads`
	tx.Exec("SELECT 1")
	rw, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	rw.Exec("CREATE TABLE t (v)")
	return rw.Commit()
}

func eachUser(ctx context.Context, db *sql.DB) error {
	write := func(ctx context.Context) error { return nil }
	dblocker.EachUser(ctx, db, write, dblocker.EachShared())
	dblocker.EachUser(ctx, db, func(ctx context.Context) error {
		_, err := db.ExecContext(ctx, "UPDATE t SET v = 1")
		return err
	}, dblocker.EachParallel(2))
	return dblocker.EachUser(ctx, db, func(ctx context.Context) error {
		_, err := db.ExecContext(ctx, "UPDATE t SET v = 1") // want `the section of EachUser with EachShared only reads`
		return err
	}, dblocker.EachParallel(2), dblocker.EachShared())
}
