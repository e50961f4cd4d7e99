package dblocker

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
)

// A dialing is the opening of a server connection, or another call of the inner driver that may
// not heed its context. It runs on a goroutine of its own, so that who waits for it can leave:
// then it lives on, and what it has opened is closed when it returns.
type dialing struct {
	conn *serverConn
	err  error
}

// awaitDial waits for open, at most as long as ctx and, if that is above zero, timeout allow.
func awaitDial(ctx context.Context, timeout time.Duration, open func(context.Context) (*serverConn, error)) (*serverConn, error) {
	began := time.Now()
	left := make(chan struct{})
	done := make(chan dialing)
	within, cancel := context.WithCancel(ctx)
	defer func() {
		if ctx.Done() != nil { // else nothing that open has made may end with a context
			cancel()
		}
	}()
	go dial(within, open, done, left)
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
	close(left)
	return nil, err
}

// dial gives what open returns to who waits for it, if that has not left.
func dial(ctx context.Context, open func(context.Context) (*serverConn, error), done chan<- dialing, left <-chan struct{}) {
	d := dialing{err: errDialGone}
	defer func() {
		if p := recover(); p != nil {
			d.err = &dialPanic{p}
		}
		select {
		case done <- d:
		case <-left:
			d.close()
		}
	}()
	d.conn, d.err = open(ctx)
}

func (d dialing) close() {
	if d.conn != nil {
		d.conn.Close()
	}
}

// A dialPanic is a panic in the inner driver's Connect, as an error: database/sql would count
// the connection for ever if it saw the panic itself. It goes on where the program called.
type dialPanic struct{ value any }

func (p *dialPanic) Error() string {
	return fmt.Sprintf("dblocker: the inner driver, or a hook of the program, has panicked in Connect: %v", p.value)
}

// errDialGone is for a Connect that called runtime.Goexit.
var errDialGone = errors.New("dblocker: the inner driver, or a hook of the program, has ended its goroutine in Connect")

// repanic lets a panic in Connect go on.
func repanic(err error) error {
	var p *dialPanic
	if errors.As(err, &p) {
		panic(p.value)
	}
	return err
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
