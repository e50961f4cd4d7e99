package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// TestUntaggedNestedReadPassesQueuedWriter: a program that tags nothing reads in a loop
// over rows while a writer waits for these.
func TestUntaggedNestedReadPassesQueuedWriter(t *testing.T) {
	nested := map[string]func(db *sql.DB) error{
		"query": func(db *sql.DB) error {
			return db.QueryRow("SELECT n FROM counters").Scan(new(int))
		},
		"rows in rows": func(db *sql.DB) error {
			load := &sqliteLoad{db: db}
			return load.readInRows(context.Background(), "1")
		},
		"read-only transaction": func(db *sql.DB) error {
			tx, err := db.BeginTx(context.Background(), &sql.TxOptions{ReadOnly: true})
			if err != nil {
				return err
			}
			return errors.Join(db.QueryRow("SELECT n FROM counters").Scan(new(int)), tx.Commit())
		},
		"prepared query": func(db *sql.DB) error {
			stmt, err := db.Prepare("SELECT n FROM counters")
			if err != nil {
				return err
			}
			defer stmt.Close()
			return stmt.QueryRow().Scan(new(int))
		},
	}
	onJournals(t, "lock_timeout=1m", func(t *testing.T, db *sql.DB, mode string) {
		for name, read := range nested {
			for _, writer := range []context.Context{context.Background(), asUser(2)} {
				rows, err := db.Query("SELECT n FROM counters")
				must(t, err)
				done := queueWriter(t, db, writer, mode)
				for rows.Next() {
					start := time.Now()
					if err := read(db); err != nil || time.Since(start) > 30*time.Second {
						t.Errorf("%s: %v, after %v", name, err, time.Since(start))
						break
					}
				}
				must(t, rows.Close())
				must(t, <-done)
			}
		}
	})
}

// queueWriter begins a write that has to wait at the gate.
func queueWriter(t *testing.T, db *sql.DB, ctx context.Context, mode string) (done chan error) {
	t.Helper()
	done = make(chan error, 1)
	go func() {
		_, err := db.ExecContext(ctx, "UPDATE counters SET n = 1")
		done <- err
	}()
	if mode != "WAL" {
		waitFor(t, func() bool { return waitingAtGates() == 1 || len(done) == 1 })
	}
	return done
}

// TestUntaggedReadersDoNotPassWriters: a read waits behind a writer in the queue, even while
// others read.
func TestUntaggedReadersDoNotPassWriters(t *testing.T) {
	testdb.NoLeaks(t)
	db := openJournal(t, "DELETE", "")
	tx, err := db.BeginTx(asUser(1), &sql.TxOptions{ReadOnly: true}) // which does not make way, and is nobody's that reads
	must(t, err)
	must(t, tx.QueryRow("SELECT n FROM counters").Scan(new(int)))
	done := queueWriter(t, db, context.Background(), "DELETE")
	hasty, cancel := context.WithTimeout(context.Background(), 2*gate.Patience)
	defer cancel()
	if err := db.QueryRowContext(hasty, "SELECT n FROM counters").Scan(new(int)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a read passed a writer in the queue: %v", err)
	}
	must(t, tx.Commit())
	must(t, <-done)
}

// TestUntaggedTransactionsDoNotStarveWriters: a writer waits for those who had their turn
// before it, and for who passed beside them, but because of these others pass no earlier
// than one has waited so long that it may be beside one of them.
func TestUntaggedTransactionsDoNotStarveWriters(t *testing.T) {
	testdb.NoLeaks(t)
	db := openJournal(t, "DELETE", "")
	g := gateOf(t, db)
	begin := func() *sql.Tx {
		tx, err := db.BeginTx(context.Background(), &sql.TxOptions{ReadOnly: true})
		must(t, err)
		must(t, tx.QueryRow("SELECT n FROM counters").Scan(new(int)))
		return tx
	}
	elder := begin()
	done := queueWriter(t, db, context.Background(), "DELETE")
	passed := begin()
	must(t, elder.Commit())
	if u := g.Untagged(); u.Elders != 0 || u.Passed != 1 {
		t.Errorf("%d elders and %d that have passed, want 0 and 1", u.Elders, u.Passed)
	}
	g.SetPatience(time.Minute)
	hasty, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := db.QueryRowContext(hasty, "SELECT n FROM counters").Scan(new(int)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a reader passed because of one that has passed: %v", err)
	}
	g.SetPatience(20 * time.Millisecond)
	start := time.Now()
	for range 3 { // of which only the first has to wait
		must(t, db.QueryRow("SELECT n FROM counters").Scan(new(int)))
	}
	if waited, u := time.Since(start), g.Untagged(); waited < 20*time.Millisecond || u.Elders != 1 || u.Patience != 40*time.Millisecond {
		t.Errorf("the readers in a loop waited %v, and left %d elders and a patience of %v", waited, u.Elders, u.Patience)
	}
	must(t, passed.Commit())
	must(t, <-done)
	if u := g.Untagged(); u != (gate.UntaggedState{Patience: gate.ShortestPatience}) {
		t.Errorf("%d elders, %d that have passed and a patience of %v are left", u.Elders, u.Passed, u.Patience)
	}
}
