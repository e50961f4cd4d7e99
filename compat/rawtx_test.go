package compat

import (
	"context"
	"slices"
	"testing"

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
				holds, err := dblocker.Holds(db)
				if err != nil {
					t.Fatal(err)
				}
				locked := slices.ContainsFunc(holds, func(h dblocker.HoldInfo) bool { return h.User == "1" })
				if locked != step.locked {
					t.Errorf("after %q: locked %v, want %v: %v", step.text, locked, step.locked, holds)
				}
			}
		})
	}
}
