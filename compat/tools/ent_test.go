package tools

import (
	"context"
	"errors"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/calmdocs/dblocker/compat/tools/ent"
	entaccount "github.com/calmdocs/dblocker/compat/tools/ent/account"
)

type entProgram struct{ client *ent.Client }

func openEnt(to *target) (program, error) {
	name := map[*engine]string{sqliteEngine: dialect.SQLite, postgresEngine: dialect.Postgres, mariadbEngine: dialect.MySQL}[to.engine]
	handle := to.handle
	client := ent.NewClient(ent.Driver(entsql.OpenDB(name, handle)))
	return entProgram{client}, nil
}

func (p entProgram) Migrate(ctx context.Context) error { return p.client.Schema.Create(ctx) }

func (p entProgram) Create(ctx context.Context, id int64) error {
	return p.client.Account.Create().SetID(id).SetCents(0).Exec(ctx)
}

func (p entProgram) Cents(ctx context.Context, id int64) (int64, error) {
	a, err := p.client.Account.Get(ctx, id)
	if err != nil {
		return 0, err
	}
	return a.Cents, nil
}

func (p entProgram) Add(ctx context.Context, id int64) error {
	client := p.client
	tx, err := client.Tx(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	a, err := tx.Account.Get(ctx, id)
	if err != nil {
		return err
	}
	if err := a.Update().SetCents(a.Cents + 1).Exec(ctx); err != nil {
		return err
	}
	return tx.Commit()
}

// AddNested has savepoints in SQL, since ent has no nested transactions.
func (p entProgram) AddNested(ctx context.Context, id int64) error {
	tx, err := p.client.Tx(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	exec := func(text string) error { return second(tx.ExecContext(ctx, text)) }
	if err := errors.Join(exec("SAVEPOINT a"), tx.Account.UpdateOneID(id).SetCents(-1).Exec(ctx), exec("ROLLBACK TO SAVEPOINT a")); err != nil {
		return err
	}
	a, err := tx.Account.Get(ctx, id)
	if err != nil {
		return err
	}
	if err := errors.Join(exec("SAVEPOINT b"), a.Update().SetCents(a.Cents+1).Exec(ctx), exec("RELEASE SAVEPOINT b")); err != nil {
		return err
	}
	return tx.Commit()
}

func (p entProgram) AddEach(ctx context.Context, from, to int64) error {
	all, err := p.client.Account.Query().Where(entaccount.IDGTE(from), entaccount.IDLT(to)).All(ctx) // ent leaves no rows open
	for _, a := range all {
		err = errors.Join(err, a.Update().SetCents(a.Cents+1).Exec(ctx))
	}
	return err
}

// Leak has nothing to forget: ent reads rows to their end.
func (p entProgram) Leak(ctx context.Context) error {
	_, err := p.client.Account.Query().First(ctx)
	return err
}
