package compat

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/calmdocs/dblocker"
)

// TestStringsOfStatementsThatBegin: one of several statements in a string begins a transaction, of which the
// driver must tell; it keeps the user's lock until it ends.
func TestStringsOfStatementsThatBegin(t *testing.T) {
	for _, d := range drivers {
		if d.title == "pgx" || d.title == "mysql with times and interpolation" {
			continue // they take one statement at a time
		}
		t.Run(d.title, func(t *testing.T) {
			db := open(t, "dblocker", d.name+":"+d.database(t))
			if _, err := db.Exec("CREATE TABLE counters (n int)"); err != nil {
				t.Fatal(err)
			}
			ctx := dblocker.WithUser(context.Background(), 1)
			conn, err := db.Conn(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			for _, step := range []struct {
				text   string
				locked bool
			}{
				{"SELECT 1; SELECT 2", false}, {"BEGIN; INSERT INTO counters VALUES (1)", true}, {"INSERT INTO counters VALUES (2)", true},
				{"COMMIT; SELECT 1", false}, {"BEGIN; INSERT INTO counters VALUES (3); COMMIT", false},
			} {
				if _, err := conn.ExecContext(ctx, step.text); err != nil {
					t.Fatalf("%s: %v", step.text, err)
				}
				if locked := holdsOf(t, db, "1") > 0; locked != step.locked {
					t.Errorf("after %q: locked %v, want %v", step.text, locked, step.locked)
				}
			}
		})
	}
}

// TestCancelledInRawTransaction: a cancelled statement costs the connection, and with it the transaction that it is
// in. Nothing more has to be done on the handle for the lock to be free.
func TestCancelledInRawTransaction(t *testing.T) {
	slow := map[*engine]string{postgresEngine: "SELECT pg_sleep(20)", mysqlEngine: "SELECT SLEEP(20)"}
	for _, d := range mainDrivers(postgresEngine, mysqlEngine) {
		if d.name == "postgres" {
			continue // the connection goes on, and with it the transaction
		}
		t.Run(d.title, func(t *testing.T) {
			db := open(t, "dblocker", d.name+":"+d.database(t))
			ctx := dblocker.WithUser(context.Background(), 1)
			conn, err := db.Conn(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.ExecContext(ctx, "BEGIN"); err != nil {
				t.Fatal(err)
			}
			short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
			defer cancel()
			if _, err := conn.ExecContext(short, slow[d.engine]); err == nil {
				t.Fatal("the slow statement was not cancelled")
			}
			conn.Close()
			for deadline := time.Now().Add(30 * time.Second); holdsOf(t, db, "1") > 0; time.Sleep(5 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("the user's lock is still held, by nobody")
				}
			}
		})
	}
}

func holdsOf(t *testing.T, db *sql.DB, user string) (n int) {
	t.Helper()
	holds, err := dblocker.Holds(db)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range holds {
		if h.User == user {
			n++
		}
	}
	return n
}
