package dblocker

import (
	"context"
	"database/sql"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/calmdocs/dblocker/internal/fakedriver"
)

// TestRowsClosedWithoutTheTurn: rows of a section whose connection another call has are closed when that call returns, whether they are
// still open there, or have made way for it and are in memory. Then the section has nothing left in it.
func TestRowsClosedWithoutTheTurn(t *testing.T) {
	for name, inMemory := range map[string]bool{"open": false, "in memory": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				server := fakedriver.NewServer(fakedriver.Full())
				slow, end := false, make(chan struct{})
				server.Hook = func(_ int, method string) error {
					if slow && method == "conn.ExecContext" {
						slow = false
						<-end
					}
					return nil
				}
				c, err := NewConnector(server.Connector(), Dialect("generic"), MaxOpenConns(2), LockTimeout(time.Second), SelfWait(time.Second), Logger(textLogger(io.Discard)))
				must(t, err)
				if inMemory { // a connection that has locks of the engine has one thing to do at a time
					reachByFake(c, &fakeLocks)
				}
				db := sql.OpenDB(c)
				defer db.Close()
				ctx, unlock, err := Lock(asUser(1), db, Pin())
				must(t, err)
				rows, err := db.QueryContext(ctx, "SELECT v FROM t")
				must(t, err)
				rows.Next()
				tx, err := db.BeginTx(ctx, nil)
				must(t, err)
				done := make(chan error, 1)
				slow = true
				go func() {
					_, err := tx.ExecContext(ctx, "UPDATE t SET v = 1")
					done <- err
				}()
				synctest.Wait()
				rows.Close() // in vain, after a second
				unlock()
				close(end)
				<-done
				tx.Rollback()
				synctest.Wait()
				if holds, err := Holds(db); err != nil || len(holds) > 0 {
					t.Errorf("when all has ended, %+v is left (%v)", holds, err)
				}
				must(t, execAs(db, WithUser(context.Background(), 1)))
			})
		})
	}
}
