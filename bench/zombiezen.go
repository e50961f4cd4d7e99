package main

import (
	"context"
	"fmt"
	"strings"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// A zombiezenStore works through an SQLite library of its own, modernc.org's.
// Two of them on one file in one process would break each other's file locks, so
// nothing else ever opens its file.
type zombiezenStore struct{ pool *sqlitex.Pool }

func openZombiezen(path string) (store, error) {
	// The library itself would sync on every commit, mattn/go-sqlite3 does not.
	normal := func(conn *sqlite.Conn) error {
		return sqlitex.ExecuteTransient(conn, "PRAGMA synchronous = NORMAL", nil)
	}
	pool, err := sqlitex.NewPool(path, sqlitex.PoolOptions{PoolSize: maxIdle, PrepareConn: normal})
	if err != nil {
		return nil, err
	}
	return zombiezenStore{pool}, nil
}

// with runs f on a connection of the pool.
func (s zombiezenStore) with(ctx context.Context, f func(*sqlite.Conn) error) error {
	conn, err := s.pool.Take(ctx)
	if err != nil {
		return err
	}
	defer s.pool.Put(conn)
	return f(conn)
}

func (s zombiezenStore) create(ctx context.Context, statements []string) error {
	return s.with(ctx, func(conn *sqlite.Conn) error {
		return sqlitex.ExecuteScript(conn, strings.Join(statements, ";\n"), nil)
	})
}

func (s zombiezenStore) read(ctx context.Context, user int) error {
	return s.with(ctx, func(conn *sqlite.Conn) error {
		_, err := readCounter(conn, user)
		return err
	})
}

func (s zombiezenStore) update(ctx context.Context, user int) error {
	return s.with(ctx, func(conn *sqlite.Conn) error {
		return updateCounter(conn, "UPDATE counters SET n = n + 1 WHERE id = ?", user)
	})
}

func (s zombiezenStore) modify(ctx context.Context, user int) error {
	return s.with(ctx, func(conn *sqlite.Conn) (err error) {
		end, err := sqlitex.ImmediateTransaction(conn)
		if err != nil {
			return err
		}
		defer end(&err)
		n, err := readCounter(conn, user)
		if err != nil {
			return err
		}
		return updateCounter(conn, "UPDATE counters SET n = ? WHERE id = ?", n+1, user)
	})
}

func (s zombiezenStore) sum(ctx context.Context) (sum int, err error) {
	err = s.with(ctx, func(conn *sqlite.Conn) error {
		return sqlitex.Execute(conn, "SELECT sum(n) FROM counters", &sqlitex.ExecOptions{
			ResultFunc: func(row *sqlite.Stmt) error {
				sum = row.ColumnInt(0)
				return nil
			},
		})
	})
	return sum, err
}

func (s zombiezenStore) close() error { return s.pool.Close() }

func readCounter(conn *sqlite.Conn, user int) (n int, err error) {
	id := 0
	err = sqlitex.Execute(conn, "SELECT id, n FROM counters WHERE id = ?", &sqlitex.ExecOptions{
		Args: []any{user},
		ResultFunc: func(row *sqlite.Stmt) error {
			id, n = row.ColumnInt(0), row.ColumnInt(1)
			return nil
		},
	})
	return n, checkCounter(err, id, user)
}

func updateCounter(conn *sqlite.Conn, query string, args ...any) error {
	if err := sqlitex.Execute(conn, query, &sqlitex.ExecOptions{Args: args}); err != nil {
		return err
	}
	if n := conn.Changes(); n != 1 {
		return fmt.Errorf("the update changed %d rows, want 1", n)
	}
	return nil
}
