package tools

import (
	"context"
	"errors"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/calmdocs/dblocker"
)

// sqlxProgram has the migrations of golang-migrate: see migrate_test.go.
type sqlxProgram struct {
	to *target
	db *sqlx.DB
}

type sqlxAccount struct{ ID, Cents int64 }

func openSqlx(to *target) (program, error) {
	if !to.locked {
		return sqlxProgram{to, sqlx.NewDb(to.handle, to.driver)}, nil
	}
	db, err := openxSqlx(to.driver, to.dsn)
	if err != nil {
		return nil, err
	}
	to.handle.Close()
	to.handle = db.DB
	return sqlxProgram{to, db}, nil
}

func openxSqlx(driver, dsn string) (*sqlx.DB, error) {
	db, err := dblocker.Openx(driver, dsn) // was: sqlx.Open(driver, dsn)
	return db, err
}

func (p sqlxProgram) Migrate(context.Context) error { return migrateUp(p.to) }

func (p sqlxProgram) Create(ctx context.Context, id int64) error {
	return second(p.db.NamedExecContext(ctx, "INSERT INTO accounts (id, cents) VALUES (:id, :cents)", sqlxAccount{ID: id}))
}

func (p sqlxProgram) Cents(ctx context.Context, id int64) (cents int64, err error) {
	return cents, p.db.GetContext(ctx, &cents, p.db.Rebind("SELECT cents FROM accounts WHERE id = ?"), id)
}

func (p sqlxProgram) Add(ctx context.Context, id int64) error {
	tx, err := p.db.BeginTxx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := addSqlx(ctx, tx, id); err != nil {
		return err
	}
	return tx.Commit()
}

func addSqlx(ctx context.Context, tx *sqlx.Tx, id int64) error {
	var a sqlxAccount
	if err := tx.GetContext(ctx, &a, tx.Rebind("SELECT id, cents FROM accounts WHERE id = ?"), id); err != nil {
		return err
	}
	a.Cents++
	_, err := tx.NamedExecContext(ctx, "UPDATE accounts SET cents = :cents WHERE id = :id", a)
	return err
}

// AddNested has savepoints in SQL.
func (p sqlxProgram) AddNested(ctx context.Context, id int64) error {
	tx, err := p.db.BeginTxx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, query := range []string{"SAVEPOINT a", "UPDATE accounts SET cents = -1 WHERE id = " + fmt.Sprint(id), "ROLLBACK TO SAVEPOINT a", "SAVEPOINT b"} {
		if _, err := tx.ExecContext(ctx, query); err != nil {
			return err
		}
	}
	if err := errors.Join(addSqlx(ctx, tx, id), second(tx.ExecContext(ctx, "RELEASE SAVEPOINT b"))); err != nil {
		return err
	}
	return tx.Commit()
}

func (p sqlxProgram) AddEach(ctx context.Context, from, to int64) error {
	rows, err := p.db.QueryxContext(ctx, p.db.Rebind("SELECT id, cents FROM accounts WHERE id >= ? AND id < ?"), from, to)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var a sqlxAccount
		if err := rows.StructScan(&a); err != nil {
			return err
		}
		a.Cents++
		if _, err := p.db.NamedExecContext(ctx, "UPDATE accounts SET cents = :cents WHERE id = :id", a); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (p sqlxProgram) Leak(ctx context.Context) error {
	rows, err := p.db.QueryxContext(ctx, "SELECT id, cents FROM accounts")
	if err != nil {
		return err
	}
	return first(rows.Rows, nil)
}
