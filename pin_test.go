package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestWaitForPinnedConnection: while one call has the connection, others wait for it as long
// as their context lasts, or the section.
func TestWaitForPinnedConnection(t *testing.T) {
	for name, operate := range map[string]func(ctx context.Context, db *sql.DB) error{
		"Exec":    func(ctx context.Context, db *sql.DB) error { return second(db.ExecContext(ctx, "UPDATE t SET v = 1")) },
		"Query":   func(ctx context.Context, db *sql.DB) error { return second(db.QueryContext(ctx, "SELECT v FROM t")) },
		"Prepare": func(ctx context.Context, db *sql.DB) error { return second(db.PrepareContext(ctx, "SELECT v FROM t")) },
		"BeginTx": func(ctx context.Context, db *sql.DB) error { return second(db.BeginTx(ctx, nil)) },
		"Ping":    func(ctx context.Context, db *sql.DB) error { return db.PingContext(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				returnNow := make(chan bool)
				db := openStub(t, &stub{run: func(_ context.Context, query string) error {
					if query == "long" {
						<-returnNow
					}
					return nil
				}})
				ctx, unlock, err := Lock(asUser(1), db, Pin())
				must(t, err)
				long := make(chan error)
				go func() { _, err := db.ExecContext(ctx, "long"); long <- err }()
				synctest.Wait()

				start := time.Now()
				short, cancel := context.WithTimeout(ctx, time.Second)
				defer cancel()
				if err := operate(short, db); err != context.DeadlineExceeded {
					t.Errorf("with a context that ends: %v", err)
				}
				if waited := time.Since(start); waited != time.Second {
					t.Errorf("it waited %v, its context has ended after 1s", waited)
				}

				released := make(chan error)
				go func() { released <- operate(ctx, db) }()
				synctest.Wait()
				unlock()
				if err := <-released; !errors.Is(err, ErrReleased) {
					t.Errorf("when the section has ended: %v", err)
				}
				if isFree(t, db, 1) {
					t.Error("the lock passed on while a call was running")
				}
				close(returnNow)
				must(t, <-long)
				if !isFree(t, db, 1) {
					t.Error("the lock did not pass on when the call returned")
				}
				synctest.Wait()
			})
		})
	}
}
