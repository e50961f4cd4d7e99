package dblocker

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/calmdocs/dblocker/internal/fakedriver"
)

// TestSectionEndsWithTheLockOfItsConnection: in a section whose lock among processes is on its connection, a call of the driver panics, ends the goroutine or says
// that the connection is bad, so that it is closed, and the lock gone with it. The section ends with ErrLockLost, also if nobody calls in it any more, and that is told once.
func TestSectionEndsWithTheLockOfItsConnection(t *testing.T) {
	for name, fault := range map[string]func() error{
		"panic":          func() error { panic(errInjected) },
		"Goexit":         func() error { runtime.Goexit(); return nil },
		"bad connection": func() error { return driver.ErrBadConn },
	} {
		for call, do := range map[string]func(ctx context.Context, db *sql.DB) error{
			"ExecContext": func(ctx context.Context, db *sql.DB) error { return execAs(db, ctx) },
			"QueryContext": func(ctx context.Context, db *sql.DB) error {
				return db.QueryRowContext(ctx, "SELECT v FROM t").Scan(new(any), new(any))
			},
			"BeginTx": func(ctx context.Context, db *sql.DB) error { return second(db.BeginTx(ctx, nil)) },
			"Commit": func(ctx context.Context, db *sql.DB) error {
				tx, err := db.BeginTx(ctx, nil)
				if err != nil {
					return err
				}
				return tx.Commit()
			},
		} {
			t.Run(name+" in "+call, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					server := fakedriver.NewServer(fakedriver.Full())
					armed := false
					server.Hook = func(_ int, method string) error {
						if armed && strings.HasSuffix(method, "."+call) {
							armed = false
							return fault()
						}
						return nil
					}
					var l eventLog
					c, err := NewConnector(server.Connector(), Dialect("generic"), MaxOpenConns(2), Logger(textLogger(io.Discard)), Observe(l.add))
					must(t, err)
					reachByFake(c, &fakeLocks)
					db := sql.OpenDB(c)
					defer db.Close()
					ctx, unlock, err := Lock(asUser(1), db)
					must(t, err)
					defer unlock()
					must(t, do(ctx, db))
					ended := make(chan struct{})
					go func() {
						defer close(ended)
						defer func() { recover() }()
						armed = true
						do(ctx, db)
					}()
					<-ended
					synctest.Wait()
					if armed {
						t.Fatal("the fault was not reached")
					}
					if err := context.Cause(ctx); !errors.Is(err, ErrLockLost) {
						t.Errorf("the context of the section has ended with %v, want ErrLockLost", err)
					}
					if err := do(ctx, db); !errors.Is(err, ErrLockLost) {
						t.Errorf("the next call: got %v, want ErrLockLost", err)
					}
					if e := l.of(EventLockLost); len(e) != 1 || e[0].User != "1" || e[0].Held != "section" {
						t.Errorf("told %+v, want the loss once", e)
					}
					must(t, execAs(db, asUser(1))) // while the section was not unlocked yet
				})
			})
		}
	}
}
