package tools

import (
	"context"
	"database/sql"
	"errors"
	"regexp"

	"github.com/calmdocs/dblocker/compat/tools/sqlc"
)

// sqlcProgram has the migrations of goose: see goose_test.go.
type sqlcProgram struct {
	to      *target
	handle  *sql.DB
	queries *sqlc.Queries
}

func openSqlc(to *target) (program, error) {
	handle := to.handle
	queries := sqlc.New(placeholders{to.engine, handle})
	return sqlcProgram{to, handle, queries}, nil
}

// placeholders has the texts that sqlc would have made for MySQL.
type placeholders struct {
	*engine
	sqlc.DBTX
}

var dollar = regexp.MustCompile(`\$\d`)

func (p placeholders) text(query string) string {
	if p.engine != mariadbEngine {
		return query // SQLite takes $1 too
	}
	return dollar.ReplaceAllString(query, "?")
}

func (p placeholders) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return p.DBTX.ExecContext(ctx, p.text(query), args...)
}

func (p placeholders) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return p.DBTX.QueryContext(ctx, p.text(query), args...)
}

func (p placeholders) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	return p.DBTX.QueryRowContext(ctx, p.text(query), args...)
}

func (p sqlcProgram) Migrate(ctx context.Context) error { return gooseUp(ctx, p.to) }

func (p sqlcProgram) Create(ctx context.Context, id int64) error {
	return second(p.queries.CreateAccount(ctx, id)) // INSERT ... RETURNING, by Query
}

func (p sqlcProgram) Cents(ctx context.Context, id int64) (int64, error) {
	a, err := p.queries.GetAccount(ctx, id)
	return a.Cents, err
}

func (p sqlcProgram) Add(ctx context.Context, id int64) error {
	tx, err := p.handle.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := addSqlc(ctx, sqlc.New(placeholders{p.to.engine, tx}), id); err != nil {
		return err
	}
	return tx.Commit()
}

func addSqlc(ctx context.Context, queries *sqlc.Queries, id int64) error {
	a, err := queries.GetAccount(ctx, id)
	if err != nil {
		return err
	}
	return queries.SetCents(ctx, sqlc.SetCentsParams{ID: id, Cents: a.Cents + 1})
}

// AddNested has savepoints in SQL.
func (p sqlcProgram) AddNested(ctx context.Context, id int64) error {
	tx, err := p.handle.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	queries := sqlc.New(placeholders{p.to.engine, tx})
	exec := func(text string) error { return second(tx.ExecContext(ctx, text)) }
	err = errors.Join(exec("SAVEPOINT a"), queries.SetCents(ctx, sqlc.SetCentsParams{ID: id, Cents: -1}), exec("ROLLBACK TO SAVEPOINT a"),
		exec("SAVEPOINT b"), addSqlc(ctx, queries, id), exec("RELEASE SAVEPOINT b"))
	if err != nil {
		return err
	}
	return tx.Commit()
}

func (p sqlcProgram) AddEach(ctx context.Context, from, to int64) error {
	all, err := p.queries.ListAccounts(ctx, sqlc.ListAccountsParams{ID: from, ID_2: to})
	for _, a := range all {
		err = errors.Join(err, p.queries.SetCents(ctx, sqlc.SetCentsParams{ID: a.ID, Cents: a.Cents + 1}))
	}
	return err
}

// Leak is by hand: sqlc reads rows to their end.
func (p sqlcProgram) Leak(ctx context.Context) error {
	return first(p.handle.QueryContext(ctx, "SELECT id, cents FROM accounts"))
}
