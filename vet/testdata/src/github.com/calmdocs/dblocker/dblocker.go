// Package dblocker has the declarations of the real one that the analyzers look for.
package dblocker

import (
	"context"
	"database/sql"
	"database/sql/driver"

	"github.com/jmoiron/sqlx"
)

type (
	Handle interface {
		Conn(ctx context.Context) (*sql.Conn, error)
	}
	Option        func()
	SectionOption func()
	Mode          int
	Store         struct{}
	Connector     struct{ driver.Connector }
)

const Shared Mode = 0

var (
	ErrLockTimeout error
	UserKey        any
)

// takeBack has the limits of a handle set by dblocker itself.
func takeBack(c driver.Connector) {
	if db, err := OpenDB(c); err == nil {
		db.SetMaxIdleConns(-1)
	}
}

func WithUser(ctx context.Context, id any) context.Context        { return ctx }
func WithoutUser(ctx context.Context) context.Context             { return ctx }
func Fork(ctx context.Context) context.Context                    { return ctx }
func WithMode(ctx context.Context, mode Mode) context.Context     { return ctx }
func Tag(tag string) SectionOption                                { return nil }
func Holds(db Handle) ([]int, error)                              { return nil, nil }
func Inner(db Handle) (*sql.DB, error)                            { return nil, nil }
func Register(name string, d driver.Driver, opts ...Option) error { return nil }
func OpenDB(c driver.Connector, opts ...Option) (*sql.DB, error)  { return nil, nil }
func NewConnector(c driver.Connector) (*Connector, error)         { return nil, nil }

func Openx(driverName, dataSourceName string, opts ...Option) (*sqlx.DB, error) { return nil, nil }

func Lock(ctx context.Context, db Handle, opts ...SectionOption) (_ context.Context, unlock func(), err error) {
	return ctx, func() {}, nil
}

func RLock(ctx context.Context, db Handle, opts ...SectionOption) (_ context.Context, unlock func(), err error) {
	return ctx, func() {}, nil
}

func TryLock(ctx context.Context, db Handle, opts ...SectionOption) (_ context.Context, unlock func(), err error) {
	return ctx, func() {}, nil
}

func LockUsers(ctx context.Context, db Handle, ids ...any) (_ context.Context, unlock func(), err error) {
	return ctx, func() {}, nil
}

func Do(ctx context.Context, db Handle, f func(ctx context.Context) error, opts ...SectionOption) error {
	return f(ctx)
}

type EachOption func()

func EachShared() EachOption        { return nil }
func EachParallel(n int) EachOption { return nil }

func EachUser(ctx context.Context, db Handle, f func(ctx context.Context) error, opts ...EachOption) error {
	return f(ctx)
}

func RDo(ctx context.Context, db Handle, f func(ctx context.Context) error, opts ...SectionOption) error {
	return f(ctx)
}

func New(ctx context.Context, driverName, dataSourceName string, debug bool, opts ...Option) (*Store, error) {
	return nil, nil
}

func (s *Store) DB() *sqlx.DB { return nil }

func (s *Store) ReadGetDB(userID any, ctx context.Context, tag string) (cancel context.CancelFunc, db *sqlx.DB, err error) {
	return func() {}, nil, nil
}

func (s *Store) RWGetDB(userID any, ctx context.Context, tag string) (cancel context.CancelFunc, db *sqlx.DB, err error) {
	return func() {}, nil, nil
}

func (s *Store) Write(ctx context.Context, userID any, tag string) (db *sqlx.DB, release func(), err error) {
	return nil, func() {}, nil
}

func (s *Store) ReadDo(userID any, ctx context.Context, tag string, f func(db *sqlx.DB) error) error {
	return f(nil)
}
