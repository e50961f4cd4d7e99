package dblocker

import (
	"context"
	"database/sql"
	"testing"
)

// testRowsInSection does in open rows of a section what the drivers refuse beside rows on the same connection.
func testRowsInSection(t *testing.T, db *sql.DB) {
	inside, unlock, err := Lock(WithUser(context.Background(), "u"), db)
	must(t, err)
	do := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s in open rows of a section: %v", what, err)
		}
	}
	query := func(ctx context.Context) *sql.Rows {
		t.Helper()
		rows, err := db.QueryContext(ctx, "SELECT n FROM counters")
		must(t, err)
		if !rows.Next() {
			t.Error("no row")
		}
		return rows
	}
	rest := func(rows *sql.Rows) {
		t.Helper()
		n := 1
		for rows.Next() {
			n++
		}
		if err := rows.Err(); err != nil || n != 2 {
			t.Errorf("got %d rows (%v), want 2", n, err)
		}
		rows.Close()
	}
	x := WithUser(inside, "x")
	for _, ctx := range []context.Context{inside, x} {
		rows := query(ctx)
		_, err = db.ExecContext(inside, "UPDATE counters SET n = n")
		do("an Exec", err)
		rest(rows)
		first, second := query(ctx), query(ctx)
		rest(first)
		rest(second)
		rows = query(ctx)
		_, err = db.ExecContext(x, "UPDATE counters SET n = n")
		do("an Exec of another user", err)
		rest(rows)
		rows = query(ctx)
		stmt, err := db.PrepareContext(inside, "SELECT 1")
		do("Prepare", err)
		stmt.Close()
		rest(rows)
		rows = query(ctx)
		tx, err := db.BeginTx(inside, nil)
		do("BeginTx", err)
		rest(rows)
		rows = query(ctx)
		do("Commit", tx.Commit())
		rest(rows)
		rows = query(ctx)
		_, leave, err := Lock(WithUser(inside, "y"), db)
		do("Lock", err)
		rest(rows)
		rows = query(ctx)
		leave()
		rest(rows)
	}
	unlock()
	_, err = db.ExecContext(WithUser(context.Background(), "u"), "UPDATE counters SET n = n")
	must(t, err)
}

// TestReachRowsInSection: what is done inside open rows of a section works, as it does with connections of its own.
func TestReachRowsInSection(t *testing.T) { testRowsInSection(t, newReachScene(t).process()) }
