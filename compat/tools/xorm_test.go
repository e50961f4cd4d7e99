package tools

import (
	"context"
	"errors"
	"fmt"

	"xorm.io/xorm"
	"xorm.io/xorm/core"
)

type xormProgram struct{ engine *xorm.Engine }

type xormAccount struct {
	ID    int64 `xorm:"'id' pk"`
	Cents int64 `xorm:"'cents' notnull"`
}

func (xormAccount) TableName() string { return "accounts" }

func openXorm(to *target) (program, error) {
	db, err := xormEngine(to)
	return xormProgram{db}, err
}

func xormEngine(to *target) (*xorm.Engine, error) {
	driver, dsn, handle := to.driver, to.dsn, to.handle // driver and dsn are those of the inner driver
	return xorm.NewEngineWithDB(driver, dsn, core.FromDB(handle))
}

func (p xormProgram) Migrate(ctx context.Context) error {
	return p.engine.Context(ctx).Sync(new(xormAccount))
}

func (p xormProgram) Create(ctx context.Context, id int64) error {
	return second(p.engine.Context(ctx).Insert(&xormAccount{ID: id}))
}

func (p xormProgram) Cents(ctx context.Context, id int64) (int64, error) {
	return getXorm(p.engine.Context(ctx), id)
}

func getXorm(s *xorm.Session, id int64) (int64, error) {
	var a xormAccount
	found, err := s.ID(id).Get(&a)
	if err == nil && !found {
		err = fmt.Errorf("there is no account %d", id)
	}
	return a.Cents, err
}

func setXorm(s *xorm.Session, id, cents int64) error {
	_, err := s.ID(id).Cols("cents").Update(&xormAccount{Cents: cents})
	return err
}

func addXorm(s *xorm.Session, id int64) error {
	cents, err := getXorm(s, id)
	if err != nil {
		return err
	}
	return setXorm(s, id, cents+1)
}

func (p xormProgram) Add(ctx context.Context, id int64) error {
	engine := p.engine
	session := engine.NewSession().Context(ctx)
	defer session.Close()
	if err := session.Begin(); err != nil {
		return err
	}
	if err := addXorm(session, id); err != nil {
		return err
	}
	return session.Commit()
}

// AddNested has savepoints in SQL, since xorm has no nested transactions.
func (p xormProgram) AddNested(ctx context.Context, id int64) error {
	session := p.engine.NewSession().Context(ctx)
	defer session.Close()
	if err := session.Begin(); err != nil {
		return err
	}
	exec := func(text string) error { return second(session.Exec(text)) }
	err := errors.Join(exec("SAVEPOINT a"), setXorm(session, id, -1), exec("ROLLBACK TO SAVEPOINT a"),
		exec("SAVEPOINT b"), addXorm(session, id), exec("RELEASE SAVEPOINT b"))
	if err != nil {
		return err
	}
	return session.Commit()
}

func (p xormProgram) AddEach(ctx context.Context, from, to int64) error {
	return p.engine.Context(ctx).Where("id >= ? AND id < ?", from, to).Iterate(new(xormAccount), func(_ int, bean any) error {
		a := bean.(*xormAccount)
		return setXorm(p.engine.Context(ctx), a.ID, a.Cents+1)
	})
}

func (p xormProgram) Leak(ctx context.Context) error {
	rows, err := p.engine.Context(ctx).Rows(new(xormAccount))
	if err != nil {
		return err
	}
	if !rows.Next() {
		return errors.Join(errors.New("there is no row"), rows.Err())
	}
	return nil
}
