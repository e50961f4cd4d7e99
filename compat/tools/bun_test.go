package tools

import (
	"context"
	"database/sql"
	"errors"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/mysqldialect"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"github.com/uptrace/bun/migrate"
)

type bunProgram struct {
	db *bun.DB
	in bun.IDB // db, or a transaction
}

type bunAccount struct {
	bun.BaseModel `bun:"table:accounts"`

	ID    int64 `bun:",pk"`
	Cents int64 `bun:",notnull"`
}

func openBun(to *target) (program, error) {
	handle := to.handle
	var db *bun.DB
	switch to.engine {
	case sqliteEngine:
		db = bun.NewDB(handle, sqlitedialect.New())
	case postgresEngine:
		db = bun.NewDB(handle, pgdialect.New())
	case mariadbEngine:
		db = bun.NewDB(handle, mysqldialect.New())
	}
	return bunProgram{db, db}, nil
}

func (p bunProgram) Migrate(ctx context.Context) error {
	migrations := migrate.NewMigrations()
	migrations.Add(migrate.Migration{Name: "20260101000000", Up: func(ctx context.Context, _ *migrate.Migrator, _ *migrate.Migration) error {
		return second(p.db.NewCreateTable().Model((*bunAccount)(nil)).Exec(ctx))
	}})
	migrator := migrate.NewMigrator(p.db, migrations)
	return errors.Join(migrator.Init(ctx), second(migrator.Migrate(ctx)))
}

func (p bunProgram) Create(ctx context.Context, id int64) error {
	return second(p.db.NewInsert().Model(&bunAccount{ID: id}).Exec(ctx))
}

func (p bunProgram) Cents(ctx context.Context, id int64) (int64, error) {
	a := bunAccount{ID: id}
	err := p.in.NewSelect().Model(&a).WherePK().Scan(ctx)
	return a.Cents, err
}

func (p bunProgram) Add(ctx context.Context, id int64) error {
	db := p.in
	return db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		a := bunAccount{ID: id}
		if err := tx.NewSelect().Model(&a).WherePK().Scan(ctx); err != nil {
			return err
		}
		a.Cents++
		_, err := tx.NewUpdate().Model(&a).WherePK().Exec(ctx)
		return err
	})
}

// AddNested has transactions in one, which bun makes savepoints of.
func (p bunProgram) AddNested(ctx context.Context, id int64) error {
	return p.db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		err := tx.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
			_, err := tx.NewUpdate().Model(&bunAccount{ID: id, Cents: -1}).WherePK().Exec(ctx)
			return errors.Join(err, errRolledBack)
		})
		if err != nil && err.Error() != errRolledBack.Error() {
			return err
		}
		return bunProgram{p.db, tx}.Add(ctx, id)
	})
}

func (p bunProgram) rows(ctx context.Context, from, to int64) (*sql.Rows, error) {
	return p.db.NewSelect().Model((*bunAccount)(nil)).Where("id >= ? AND id < ?", from, to).Rows(ctx)
}

func (p bunProgram) AddEach(ctx context.Context, from, to int64) error {
	rows, err := p.rows(ctx, from, to)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var a bunAccount
		if err := p.db.ScanRow(ctx, rows, &a); err != nil {
			return err
		}
		a.Cents++
		if _, err := p.db.NewUpdate().Model(&a).WherePK().Exec(ctx); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (p bunProgram) Leak(ctx context.Context) error { return first(p.rows(ctx, 0, 1000)) }
