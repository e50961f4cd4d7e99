package dblocker

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// TestPinnedReadsWhatItsSectionWrote: rows that are open on a connection keep SQLite at the state which they began
// with. A section that writes elsewhere, and then reads on its pinned connection beside such rows, reads what it has written.
func TestPinnedReadsWhatItsSectionWrote(t *testing.T) {
	write := func(t *testing.T, ctx context.Context, on interface {
		ExecContext(context.Context, string, ...any) (sql.Result, error)
	}) {
		t.Helper()
		_, err := on.ExecContext(ctx, "UPDATE t SET v = 'new' WHERE id = 1")
		must(t, err)
	}
	for name, writeBeside := range map[string]func(t *testing.T, ctx context.Context, db, other *sql.DB){
		"Exec by another handle": func(t *testing.T, ctx context.Context, _, other *sql.DB) { write(t, ctx, other) },
		"Exec for another user": func(t *testing.T, ctx context.Context, _, other *sql.DB) {
			write(t, WithUser(ctx, 2), other)
		},
		"Query that writes, by another handle": func(t *testing.T, ctx context.Context, _, other *sql.DB) {
			var v string
			must(t, other.QueryRowContext(ctx, "UPDATE t SET v = 'new' WHERE id = 1 RETURNING v").Scan(&v))
		},
		"Tx of another handle": func(t *testing.T, ctx context.Context, _, other *sql.DB) {
			tx, err := other.BeginTx(ctx, nil)
			must(t, err)
			write(t, ctx, tx)
			must(t, tx.Commit())
		},
		"transaction in SQL by another handle": func(t *testing.T, ctx context.Context, _, other *sql.DB) {
			conn, err := other.Conn(ctx)
			must(t, err)
			defer conn.Close()
			for _, query := range []string{"BEGIN IMMEDIATE", "UPDATE t SET v = 'new' WHERE id = 1", "COMMIT"} {
				_, err := conn.ExecContext(ctx, query)
				must(t, err)
			}
		},
		"Exec that another runs": func(t *testing.T, ctx context.Context, _, other *sql.DB) {
			writeTogether(t, other, asUser(3), ctx, asUser(4))
		},
		"Exec that runs others": func(t *testing.T, ctx context.Context, _, other *sql.DB) {
			writeTogether(t, other, ctx, asUser(3), asUser(4))
		},
		"pinned section inside": func(t *testing.T, ctx context.Context, db, _ *sql.DB) {
			inside, unlock, err := Lock(ctx, db, Pin())
			must(t, err)
			defer unlock()
			write(t, inside, db)
		},
	} {
		for how, options := range map[string]string{"": "", "among processes": "lock_scope=database", "rows of Fork": ""} {
			t.Run(name+", "+how, func(t *testing.T) {
				testdb.NoLeaks(t)
				db, path := openWAL(t, options)
				other := openSQLite(t, "dblocker", "sqlite3?"+options+":file:"+path+"?_busy_timeout=0&_sync=OFF")
				mustExec(t, db, "INSERT INTO t VALUES (2, 'two'), (3, 'three')")
				ctx, unlock, err := Lock(asUser(1), db, Pin())
				must(t, err)
				defer unlock()
				opens := ctx
				if how == "rows of Fork" { // so that a statement of the section is none in its own rows, and may be combined
					opens = Fork(ctx)
				}
				rows, err := db.QueryContext(opens, "SELECT id, v FROM t ORDER BY id")
				must(t, err)
				defer rows.Close()
				expectRow(t, rows, 1, "one")

				writeBeside(t, ctx, db, other)
				var v string
				must(t, db.QueryRowContext(ctx, "SELECT v FROM t WHERE id = 1").Scan(&v))
				if v != "new" {
					t.Errorf("the section reads %q, and has written new", v)
				}
				expectRow(t, rows, 2, "two")
				expectRow(t, rows, 3, "three")
			})
		}
	}
}

// writeTogether has one who has the gate keep writes with the contexts waiting, in their order, and waits for the end of all.
func writeTogether(t *testing.T, db *sql.DB, contexts ...context.Context) {
	t.Helper()
	const query = "UPDATE t SET v = 'new' WHERE id = 1"
	hasGate, err := db.Begin()
	must(t, err)
	mustExec(t, hasGate, "UPDATE t SET v = 'two' WHERE id = 2")
	env := &openBackend(t, db).Combining
	env.Longest, env.Long = time.Hour, time.Hour // as if the machine were fast
	(&combineScene{db, t}).short(query)
	written := make(chan error, len(contexts))
	for i, ctx := range contexts {
		go func() {
			_, err := db.ExecContext(ctx, query)
			written <- err
		}()
		waitFor(t, func() bool { return waitingAtGates() == i+1 })
	}
	must(t, hasGate.Commit())
	for range contexts {
		must(t, <-written)
	}
}

// TestPinnedRowsStayBesideStrangers: what others write makes no rows of a pinned section go into memory.
func TestPinnedRowsStayBesideStrangers(t *testing.T) {
	db, _ := openWAL(t, "")
	mustExec(t, db, "INSERT INTO t VALUES (2, 'two')")
	ctx, unlock, err := Lock(asUser(1), db, Pin())
	must(t, err)
	defer unlock()
	rows, err := db.QueryContext(ctx, "SELECT id, v FROM t ORDER BY id")
	must(t, err)
	defer rows.Close()
	expectRow(t, rows, 1, "one")
	_, err = db.ExecContext(asUser(2), "UPDATE t SET v = 'other' WHERE id = 2")
	must(t, err)
	var v string
	must(t, db.QueryRowContext(ctx, "SELECT v FROM t WHERE id = 1").Scan(&v))
	st, err := Stats(db)
	must(t, err)
	if st.Spills != 0 {
		t.Errorf("%d rows were read into memory", st.Spills)
	}
	expectRow(t, rows, 2, "two")
}

func expectRow(t *testing.T, rows *sql.Rows, id int, v string) {
	t.Helper()
	var isID int
	var is string
	if !rows.Next() {
		t.Fatalf("no row %d: %v", id, rows.Err())
	}
	must(t, rows.Scan(&isID, &is))
	if isID != id || is != v {
		t.Errorf("the row is %d, %q; want %d, %q", isID, is, id, v)
	}
}
