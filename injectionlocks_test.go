package dblocker

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/calmdocs/dblocker/internal/fakedriver"
	"github.com/calmdocs/dblocker/internal/server"
)

// fakeLocks are locks of the fake server, which belong to a connection, as those of MySQL do. Each is a call of the driver.
var fakeLocks = server.Locks{
	Check: func(ctx context.Context, sc *server.Conn) error {
		_, err := sc.QueryText(ctx, "SELECT v FROM t")
		return err
	},
	Acquire: func(ctx context.Context, sc *server.Conn, locks, left []server.WantedLock, wait time.Duration, _ bool) error {
		if err := fakeRelease(ctx, sc, left); err != nil {
			return err
		}
		return fakeAcquire(ctx, sc, locks, wait, "")
	},
	Release: fakeRelease,
	Has: func(ctx context.Context, sc *server.Conn, _ string, _ []server.WantedLock) (bool, error) {
		_, err := sc.QueryText(ctx, "SELECT v FROM t")
		return true, err
	},
	Holders: func(ctx context.Context, sc *server.Conn, _ []server.WantedLock) ([]server.LockHolder, error) {
		_, err := sc.QueryText(ctx, "SELECT v FROM t")
		return nil, err
	},
	Session: func(*server.Conn) string { return "" },
}

// reachByFake has the locks of a handle reach beyond the process by locks of the fake server; nil is none.
func reachByFake(c *Connector, locks *server.Locks) {
	if locks != nil {
		engine := *c.engine
		engine.Locks = locks
		c.engine, c.lockScope = &engine, DatabaseScope
	}
}

func fakeRelease(ctx context.Context, sc *server.Conn, locks []server.WantedLock) error {
	for _, l := range locks {
		if _, err := sc.ExecContext(ctx, fmt.Sprintf("FREE %x %s", l.Key, lockMode(l)), nil); err != nil {
			return err
		}
	}
	return nil
}

// TestConnectionAsideIsGivenBack: what looks for who has a lock, on a connection beside, gives that back also if the driver panics or ends the
// goroutine.
func TestConnectionAsideIsGivenBack(t *testing.T) {
	for _, fault := range injectedFaults {
		t.Run(fault.name, func(t *testing.T) {
			db := openStub(t, &stub{}, MaxOpenConns(2), Logger(textLogger(io.Discard)))
			must(t, db.Ping())
			b := openBackend(t, db)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				defer func() { recover() }()
				b.Aside(context.Background(), func(*server.Conn) error { return fault.inject(&attempt{cancel: func() {}}) })
			}()
			<-ended
			if left := soon(func() string { return locksInUse(b, b.Servers.DB().Stats().OpenConnections) }); left != "" {
				t.Error(left)
			}
		})
	}
}

// fakeLocksOfTx are those of PostgreSQL, where a transaction may have them.
var fakeLocksOfTx = func() server.Locks {
	l := fakeLocks
	l.Begin = func(ctx context.Context, sc *server.Conn, locks, left []server.WantedLock, wait time.Duration, opts driver.TxOptions) (driver.Tx, bool, error) {
		if err := fakeRelease(ctx, sc, left); err != nil {
			return nil, false, err
		}
		tx, err := sc.BeginTx(ctx, opts)
		if err != nil {
			return nil, false, err
		}
		if err := fakeAcquire(ctx, sc, locks, wait, " TX"); err != nil {
			if tx.Rollback() != nil {
				sc.Fail()
			}
			return nil, false, err
		}
		return tx, len(locks) > 0, nil
	}
	return l
}()

func lockMode(l server.WantedLock) string {
	if l.Shared {
		return "shared"
	}
	return "exclusive"
}

// fakeAcquire tries until wait is over. If it does not get all, it gives up what it has.
func fakeAcquire(ctx context.Context, sc *server.Conn, locks []server.WantedLock, wait time.Duration, suffix string) error {
	for until := time.Now().Add(wait); ; time.Sleep(time.Millisecond) {
		had, err := fakeTry(ctx, sc, locks, suffix)
		if err == nil || !errors.Is(err, fakedriver.ErrLocked) {
			return err
		}
		if suffix == "" {
			if err := fakeRelease(context.WithoutCancel(ctx), sc, locks[:had]); err != nil {
				return err
			}
		}
		if !time.Now().Before(until) {
			return &server.LockFailure{Err: err}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

func fakeTry(ctx context.Context, sc *server.Conn, locks []server.WantedLock, suffix string) (had int, err error) {
	for i, l := range locks {
		if _, err := sc.ExecContext(ctx, fmt.Sprintf("GET %x %s%s", l.Key, lockMode(l), suffix), nil); err != nil {
			return i, err
		}
	}
	return len(locks), nil
}
