package dblocker

import (
	"context"
	"database/sql/driver"
	"log/slog"
	"reflect"
	"strings"
	"time"

	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/server"
)

// A dialing is the opening of a server connection, or another call of the inner driver that may
// not heed its context. It runs on a goroutine of its own, so that who waits for it can leave:
// then it lives on, and what it has opened is closed when it returns.
type dialing struct {
	conn *serverConn
	err  error
}

// awaitDial waits for open, at most as long as ctx and, if that is above zero, timeout allow. If
// open does not return, the error is one for raise. If the caller leaves that waits for a connection to a
// SQLite database, what it has of the gate g is kept until open has returned; other g are nil.
func awaitDial(ctx context.Context, l *slog.Logger, timeout time.Duration, g *gate.Gate, open func(context.Context) (*serverConn, error)) (*serverConn, error) {
	began := time.Now()
	left := make(chan func(), 1) // to be called when it is closed
	done := make(chan dialing)
	within, cancel := context.WithCancel(ctx)
	defer func() {
		if ctx.Done() != nil { // else nothing that open has made may end with a context
			cancel()
		}
	}()
	go dial(within, l, open, done, left)
	var expired <-chan time.Time
	if timeout > 0 {
		t := time.NewTimer(timeout)
		defer t.Stop()
		expired = t.C
	}
	var err error
	select {
	case d := <-done:
		return d.conn, d.err
	case <-ctx.Done():
		err = ctx.Err()
	case <-expired:
		err = &LockError{Waited: time.Since(began), Err: ErrLockTimeout, what: "a new connection, for which the inner driver has not returned from Connect"}
	}
	cancel()
	left <- g.LeaveOpening()
	return nil, err
}

// dial gives what open returns to who waits for it, if that has not left.
func dial(ctx context.Context, l *slog.Logger, open func(context.Context) (*serverConn, error), done chan<- dialing, left <-chan func()) {
	d := dialing{err: server.ErrGoexit}
	defer func() {
		select {
		case done <- d:
		case closed := <-left:
			defer closed() // also if the driver panics
			d.close()
		}
	}()
	if panicked := server.Contain(l, func() { d.conn, d.err = open(ctx) }); panicked != nil {
		d.err = panicked
	}
}

func (d dialing) close() {
	if d.conn != nil {
		d.conn.Close()
	}
}

// isPgxPool tells whether connections are borrowed from a pool of pgx, in which a connection that
// is idle here is one that its other users cannot have.
func isPgxPool(c driver.Connector) bool {
	v := reflect.ValueOf(c)
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct || !strings.HasPrefix(v.Type().PkgPath(), "github.com/jackc/pgx/") {
		return false
	}
	pool := v.FieldByName("pool")
	return pool.Kind() == reflect.Pointer && !pool.IsNil()
}
