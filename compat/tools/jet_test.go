package tools

import (
	"context"
	"database/sql"
	"errors"

	"github.com/go-jet/jet/v2/mysql"
	"github.com/go-jet/jet/v2/postgres"
	"github.com/go-jet/jet/v2/qrm"
	"github.com/go-jet/jet/v2/sqlite"

	"github.com/calmdocs/dblocker/compat/tools/jet/model"
	jetmysql "github.com/calmdocs/dblocker/compat/tools/jet/mysql"
	jetpostgres "github.com/calmdocs/dblocker/compat/tools/jet/postgres"
	jetsqlite "github.com/calmdocs/dblocker/compat/tools/jet/sqlite"
)

type jetProgram struct {
	handle *sql.DB
	jetStatements
}

// jetStatements are those of one engine: jet has a package for each.
type jetStatements struct {
	insert func(id int64) jetStatement
	get    func(id int64) jetStatement
	list   func(from, to int64) jetStatement
	set    func(id, cents int64) jetStatement
}

type jetStatement interface {
	QueryContext(ctx context.Context, db qrm.Queryable, dest any) error
	ExecContext(ctx context.Context, db qrm.Executable) (sql.Result, error)
	Sql() (query string, args []any)
}

func openJet(to *target) (program, error) {
	handle := to.handle
	statements := map[*engine]jetStatements{sqliteEngine: jetSQLite(), postgresEngine: jetPostgres(), mariadbEngine: jetMySQL()}[to.engine]
	return jetProgram{handle, statements}, nil
}

func jetPostgres() jetStatements {
	a := jetpostgres.Accounts
	return jetStatements{
		insert: func(id int64) jetStatement { return a.INSERT(a.ID, a.Cents).VALUES(id, 0) },
		get:    func(id int64) jetStatement { return a.SELECT(a.AllColumns).WHERE(a.ID.EQ(postgres.Int64(id))) },
		list: func(from, to int64) jetStatement {
			return a.SELECT(a.AllColumns).WHERE(a.ID.GT_EQ(postgres.Int64(from)).AND(a.ID.LT(postgres.Int64(to))))
		},
		set: func(id, cents int64) jetStatement {
			return a.UPDATE(a.Cents).SET(postgres.Int64(cents)).WHERE(a.ID.EQ(postgres.Int64(id)))
		},
	}
}

func jetSQLite() jetStatements {
	a := jetsqlite.Accounts
	return jetStatements{
		insert: func(id int64) jetStatement { return a.INSERT(a.ID, a.Cents).VALUES(id, 0) },
		get:    func(id int64) jetStatement { return a.SELECT(a.AllColumns).WHERE(a.ID.EQ(sqlite.Int64(id))) },
		list: func(from, to int64) jetStatement {
			return a.SELECT(a.AllColumns).WHERE(a.ID.GT_EQ(sqlite.Int64(from)).AND(a.ID.LT(sqlite.Int64(to))))
		},
		set: func(id, cents int64) jetStatement {
			return a.UPDATE(a.Cents).SET(sqlite.Int64(cents)).WHERE(a.ID.EQ(sqlite.Int64(id)))
		},
	}
}

func jetMySQL() jetStatements {
	a := jetmysql.Accounts.FromSchema("") // of the database that the handle is on
	return jetStatements{
		insert: func(id int64) jetStatement { return a.INSERT(a.ID, a.Cents).VALUES(id, 0) },
		get:    func(id int64) jetStatement { return a.SELECT(a.AllColumns).WHERE(a.ID.EQ(mysql.Int64(id))) },
		list: func(from, to int64) jetStatement {
			return a.SELECT(a.AllColumns).WHERE(a.ID.GT_EQ(mysql.Int64(from)).AND(a.ID.LT(mysql.Int64(to))))
		},
		set: func(id, cents int64) jetStatement {
			return a.UPDATE(a.Cents).SET(mysql.Int64(cents)).WHERE(a.ID.EQ(mysql.Int64(id)))
		},
	}
}

// Migrate is in SQL: jet has no migrations.
func (p jetProgram) Migrate(ctx context.Context) error {
	return second(p.handle.ExecContext(ctx, createAccounts))
}

const createAccounts = "CREATE TABLE IF NOT EXISTS accounts (id BIGINT PRIMARY KEY, cents BIGINT NOT NULL)"

func (p jetProgram) Create(ctx context.Context, id int64) error {
	return second(p.insert(id).ExecContext(ctx, p.handle))
}

func (p jetProgram) Cents(ctx context.Context, id int64) (int64, error) {
	var a model.Accounts
	err := p.get(id).QueryContext(ctx, p.handle, &a)
	return a.Cents, err
}

func (p jetProgram) Add(ctx context.Context, id int64) error {
	handle := p.handle
	tx, err := handle.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := p.addIn(ctx, tx, id); err != nil {
		return err
	}
	return tx.Commit()
}

func (p jetProgram) addIn(ctx context.Context, tx *sql.Tx, id int64) error {
	var a model.Accounts
	if err := p.get(id).QueryContext(ctx, tx, &a); err != nil {
		return err
	}
	return second(p.set(id, a.Cents+1).ExecContext(ctx, tx))
}

// AddNested has savepoints in SQL.
func (p jetProgram) AddNested(ctx context.Context, id int64) error {
	tx, err := p.handle.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	exec := func(text string) error { return second(tx.ExecContext(ctx, text)) }
	err = errors.Join(exec("SAVEPOINT a"), second(p.set(id, -1).ExecContext(ctx, tx)), exec("ROLLBACK TO SAVEPOINT a"),
		exec("SAVEPOINT b"), p.addIn(ctx, tx, id), exec("RELEASE SAVEPOINT b"))
	if err != nil {
		return err
	}
	return tx.Commit()
}

func (p jetProgram) AddEach(ctx context.Context, from, to int64) error {
	var all []model.Accounts
	err := p.list(from, to).QueryContext(ctx, p.handle, &all) // jet leaves no rows open
	for _, a := range all {
		err = errors.Join(err, second(p.set(a.ID, a.Cents+1).ExecContext(ctx, p.handle)))
	}
	return err
}

func (p jetProgram) Leak(ctx context.Context) error {
	query, args := p.list(0, 1000).Sql()
	return first(p.handle.QueryContext(ctx, query, args...))
}
