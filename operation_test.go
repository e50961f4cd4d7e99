package dblocker

import (
	"context"
	"database/sql"
	"sync/atomic"
	"testing"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// A countingContext counts how often something is looked up in it.
type countingContext struct {
	context.Context
	walks atomic.Int32
}

func (c *countingContext) Value(key any) any {
	c.walks.Add(1)
	return c.Context.Value(key)
}

// TestACallReadsItsContextOnce: a walk to the root of the context's chain is not cheap, and an
// operation needs no more than the user and what our own functions have put there.
func TestACallReadsItsContextOnce(t *testing.T) {
	const most = 2
	query := func(ctx context.Context, db interface {
		QueryContext(context.Context, string, ...any) (*sql.Rows, error)
	}) error {
		rows, err := db.QueryContext(ctx, "SELECT n FROM t WHERE id = ?", 1)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
		}
		return rows.Err()
	}
	for _, call := range []struct {
		name string
		most int32
		run  func(ctx context.Context, db *sql.DB) error
	}{
		{"Query", most, func(ctx context.Context, db *sql.DB) error { return query(ctx, db) }},
		{"Query that writes", most, func(ctx context.Context, db *sql.DB) error {
			var n int
			return db.QueryRowContext(ctx, "UPDATE t SET n = n + 1 WHERE id = ? RETURNING n", 1).Scan(&n)
		}},
		{"Exec", most, func(ctx context.Context, db *sql.DB) error {
			_, err := db.ExecContext(ctx, "UPDATE t SET n = n + 1 WHERE id = ?", 1)
			return err
		}},
		{"Ping", most, func(ctx context.Context, db *sql.DB) error { return db.PingContext(ctx) }},
		{"Prepare", most, func(ctx context.Context, db *sql.DB) error {
			stmt, err := db.PrepareContext(ctx, "SELECT n FROM t WHERE id = ?")
			if err != nil {
				return err
			}
			return stmt.Close()
		}},
		{"Query of a Stmt", most, func(ctx context.Context, db *sql.DB) error {
			stmt, err := db.Prepare("SELECT n FROM t WHERE id = ?")
			if err != nil {
				return err
			}
			defer stmt.Close()
			var n int
			return stmt.QueryRowContext(ctx, 1).Scan(&n)
		}},
		{"Exec of a Stmt", most, func(ctx context.Context, db *sql.DB) error {
			stmt, err := db.Prepare("UPDATE t SET n = n + 1 WHERE id = ?")
			if err != nil {
				return err
			}
			defer stmt.Close()
			_, err = stmt.ExecContext(ctx, 1)
			return err
		}},
		{"BeginTx", most, func(ctx context.Context, db *sql.DB) error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			return tx.Commit()
		}},
		{"Tx with a Query", 2 * most, func(ctx context.Context, db *sql.DB) error {
			tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
			if err != nil {
				return err
			}
			defer tx.Rollback()
			return query(ctx, tx)
		}},
		{"Tx with an Exec", 2 * most, func(ctx context.Context, db *sql.DB) error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			defer tx.Rollback()
			if _, err := tx.ExecContext(ctx, "UPDATE t SET n = n + 1 WHERE id = ?", 1); err != nil {
				return err
			}
			return tx.Commit()
		}},
		{"BEGIN and COMMIT", 2 * most, func(ctx context.Context, db *sql.DB) error {
			conn, err := db.Conn(ctx)
			if err != nil {
				return err
			}
			defer conn.Close()
			if _, err := conn.ExecContext(ctx, "BEGIN"); err != nil {
				return err
			}
			_, err = conn.ExecContext(ctx, "COMMIT")
			return err
		}},
	} {
		for _, around := range []struct {
			name string
			in   func(t *testing.T, db *sql.DB) context.Context
		}{
			{"nobody", func(*testing.T, *sql.DB) context.Context { return context.Background() }},
			{"user", func(*testing.T, *sql.DB) context.Context { return asUser(1) }},
			{"key", func(*testing.T, *sql.DB) context.Context { return context.WithValue(context.Background(), UserKey, 1) }},
			{"mode", func(*testing.T, *sql.DB) context.Context { return WithMode(asUser(1), Exclusive) }},
			{"section", func(t *testing.T, db *sql.DB) context.Context { return inSection(t, db) }},
			{"pinned section", func(t *testing.T, db *sql.DB) context.Context { return inSection(t, db, Pin()) }},
		} {
			t.Run(call.name+"/"+around.name, func(t *testing.T) {
				db := openWalked(t)
				must(t, call.run(context.Background(), db)) // so that no connection has still to be opened
				ctx := &countingContext{Context: withoutEnd{around.in(t, db)}}
				must(t, call.run(ctx, db))
				if walks := ctx.walks.Load(); walks > call.most {
					t.Errorf("the context was asked for a value %d times, want %d at most", walks, call.most)
				}
			})
		}
	}
}

// withoutEnd keeps database/sql and the drivers from making contexts of their own, in which
// package context would look for values too.
type withoutEnd struct{ context.Context }

func (withoutEnd) Done() <-chan struct{} { return nil }

func inSection(t *testing.T, db *sql.DB, opts ...SectionOption) context.Context {
	ctx, unlock, err := Lock(asUser(1), db, opts...)
	must(t, err)
	t.Cleanup(unlock)
	return ctx
}

func openWalked(t *testing.T) *sql.DB {
	db, err := sql.Open("sqlite3-dblocker", testdb.SQLite(t))
	must(t, err)
	t.Cleanup(func() { db.Close() })
	_, err = db.Exec("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER); INSERT INTO t VALUES (1, 1)")
	must(t, err)
	return db
}
