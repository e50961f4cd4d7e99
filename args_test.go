package dblocker

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"runtime"
	"testing"
)

// A valueFunc is an argument that a function of the program makes.
type valueFunc func() (driver.Value, error)

func (f valueFunc) Value() (driver.Value, error) { return f() }

// valuerTest gives f a table with one row, on SQLite with each kind of journal.
func valuerTest(t *testing.T, f func(t *testing.T, db *sql.DB, ctx context.Context)) {
	for _, journal := range []string{"WAL", "DELETE"} {
		for name, ctx := range map[string]context.Context{"tagged": asUser(1), "untagged": t.Context()} {
			t.Run(journal+"/"+name, func(t *testing.T) {
				db := openJournal(t, journal, "lock_timeout=10s&self_wait=10s")
				for _, text := range []string{"CREATE TABLE v (id INTEGER PRIMARY KEY, n INTEGER)", "INSERT INTO v VALUES (1, 7)"} {
					_, err := db.Exec(text)
					must(t, err)
				}
				f(t, db, ctx)
			})
		}
	}
}

// TestValuersThatAskTheDatabase wait for nothing that the call has whose arguments they are.
func TestValuersThatAskTheDatabase(t *testing.T) {
	valuerTest(t, func(t *testing.T, db *sql.DB, ctx context.Context) {
		ask := valueFunc(func() (driver.Value, error) {
			var n int64
			err := db.QueryRowContext(ctx, "SELECT n + 1 FROM v WHERE id = 1").Scan(&n)
			if _, busy := db.ExecContext(ctx, "UPDATE v SET n = n WHERE id = 1"); busy != nil {
				err = busy
			}
			return n, err
		})
		_, err := db.ExecContext(ctx, "UPDATE v SET n = ? WHERE id = 1", ask)
		must(t, err)
		stmt, err := db.PrepareContext(ctx, "UPDATE v SET n = ? WHERE id = 1")
		must(t, err)
		defer stmt.Close()
		_, err = stmt.ExecContext(ctx, ask)
		must(t, err)
		var n int
		must(t, db.QueryRowContext(ctx, "SELECT n FROM v WHERE n < ?", ask).Scan(&n))
		if n != 9 {
			t.Errorf("n = %d, want 9", n)
		}
	})
}

// TestValuersThatFail: the call fails with their error, and writes nothing, also if that is the one with which
// database/sql tries again.
func TestValuersThatFail(t *testing.T) {
	own := errors.New("own")
	valuerTest(t, func(t *testing.T, db *sql.DB, ctx context.Context) {
		for _, want := range []error{own, driver.ErrBadConn} {
			fail := valueFunc(func() (driver.Value, error) { return nil, want })
			if _, err := db.ExecContext(ctx, "UPDATE v SET n = ? WHERE id = 1", fail); !errors.Is(err, want) {
				t.Errorf("Exec: got %v, want %v", err, want)
			}
			tx, err := db.BeginTx(ctx, nil)
			must(t, err)
			if _, err := tx.ExecContext(ctx, "UPDATE v SET n = ? WHERE id = 1", fail); !errors.Is(err, want) {
				t.Errorf("Exec in a Tx: got %v, want %v", err, want)
			}
			tx.Rollback()
			stmt, err := db.PrepareContext(ctx, "UPDATE v SET n = ? WHERE id = 1")
			must(t, err)
			if _, err := stmt.ExecContext(ctx, fail); !errors.Is(err, want) {
				t.Errorf("Exec of a Stmt: got %v, want %v", err, want)
			}
			must(t, stmt.Close())
			var n int
			must(t, db.QueryRowContext(ctx, "SELECT n FROM v").Scan(&n))
			if n != 7 {
				t.Fatalf("%v: n = %d, want 7", want, n)
			}
		}
	})
}

// TestValuersThatDoNotReturn leave no lock, and the handle works.
func TestValuersThatDoNotReturn(t *testing.T) {
	valuerTest(t, func(t *testing.T, db *sql.DB, ctx context.Context) {
		for name, fault := range map[string]func(){"panic": func() { panic("from Value") }, "Goexit": runtime.Goexit} {
			for place, call := range map[string]func(arg any) error{
				"Exec": func(arg any) error {
					_, err := db.ExecContext(ctx, "UPDATE v SET n = ?", arg)
					return err
				},
				"Query": func(arg any) error { return db.QueryRowContext(ctx, "SELECT ?", arg).Scan(new(any)) },
				"Tx": func(arg any) error {
					tx, err := db.BeginTx(ctx, nil)
					must(t, err)
					if name == "panic" { // after Goexit database/sql keeps it locked
						defer tx.Rollback()
					}
					return tx.QueryRowContext(ctx, "SELECT ?", arg).Scan(new(any))
				},
			} {
				done := make(chan error, 1)
				go func() {
					defer close(done)
					defer func() { recover() }()
					done <- call(valueFunc(func() (driver.Value, error) { fault(); return nil, nil }))
				}()
				if err, ok := <-done; ok && err == nil {
					t.Errorf("%s in %s: no error", name, place)
				}
				_, err := db.ExecContext(ctx, "UPDATE v SET n = 7")
				must(t, err)
			}
		}
	})
}
