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
			return // there it waits at the gate
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
