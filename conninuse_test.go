package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"

	"github.com/calmdocs/dblocker/internal/sqlite"
)

// TestConnectionsInUse: whoever waits for a server connection is told what to do, and where, with trace=on, the one was drawn that is in
// use; Holds tells of each whose work it does, and which.
func TestConnectionsInUse(t *testing.T) {
	onEngines(t, "max_open_conns=1&trace=on&lock_timeout=50ms", func(t *testing.T, db *sql.DB, c *Connector) {
		if c.engine == sqlite.Engine {
			return // see TestGateInUse
		}
		for kind, use := range map[string]func(ctx context.Context) (end func() error){
			"transaction": func(ctx context.Context) func() error {
				tx, err := db.BeginTx(ctx, nil)
				must(t, err)
				return tx.Rollback
			},
			"rows": func(ctx context.Context) func() error {
				rows, err := db.QueryContext(ctx, "SELECT n FROM counters")
				must(t, err)
				return rows.Close
			},
			"session": func(ctx context.Context) func() error {
				conn, err := db.Conn(ctx)
				must(t, err)
				_, err = conn.ExecContext(ctx, "BEGIN")
				must(t, err)
				return func() error {
					_, err := conn.ExecContext(ctx, "ROLLBACK")
					return errors.Join(err, conn.Close())
				}
			},
		} {
			t.Run(kind, func(t *testing.T) {
				end := use(asUser("ann"))
				_, err := db.ExecContext(asUser("bob"), "UPDATE counters SET n = n + 1")
				if !errors.Is(err, ErrLockTimeout) {
					t.Fatalf("beside a %s: got %v", kind, err)
				}
				for _, want := range []string{"in the way: one in use", "conninuse_test.go", "close rows, end transactions"} {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("beside a %s: %q is not in the error: %v", kind, want, err)
					}
				}
				holds, err := Holds(db)
				must(t, err)
				for _, h := range holds {
					if h.User != "ann" || h.Kind != kind {
						t.Errorf("beside a %s: Holds has %+v", kind, h)
					}
				}
				if len(holds) != 2 {
					t.Errorf("beside a %s: Holds has %+v, want the lock and the connection", kind, holds)
				}
				must(t, end())
			})
		}
	})
}

// TestGateInUse: Holds tells of a gate too whose work has it, and who waits for it.
func TestGateInUse(t *testing.T) {
	onJournals(t, "lock_timeout=1m", func(t *testing.T, db *sql.DB, _ string) {
		tx, err := db.BeginTx(asUser("ann"), nil)
		must(t, err)
		mustExec(t, tx, "UPDATE counters SET n = n + 1")
		done := make(chan error, 1)
		go func() {
			_, err := db.ExecContext(asUser("bob"), "UPDATE counters SET n = n + 1")
			done <- err
		}()
		waitFor(t, func() bool { return waitingAtGates() == 1 })
		holds, err := Holds(db)
		must(t, err)
		gates := 0
		for _, h := range holds {
			if want := map[bool]string{false: "ann", true: "bob"}[h.Waiting]; h.What == "gate" {
				if gates++; h.User != want {
					t.Errorf("the gate of %s: %+v", want, h)
				}
			}
		}
		if gates != 2 {
			t.Errorf("%d holds and waits of the gate: %+v", gates, holds)
		}
		must(t, tx.Commit())
		must(t, <-done)
	})
}
