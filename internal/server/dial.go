package server

import (
	"context"
	"log/slog"
	"time"
)

// A dialing is the opening of a server connection, or another call of the inner driver that may
// not heed its context. It runs on a goroutine of its own, so that who waits for it can leave:
// then it lives on, and what it has opened is closed when it returns.
type dialing struct {
	conn *Conn
	err  error
}

// awaitDial waits for open, at most as long as ctx and, if that is above zero, timeout allow. If
// open does not return, the error is one for Raise. The host, which may be nil if there is no timeout, is
// told when the caller leaves.
func awaitDial(ctx context.Context, l *slog.Logger, timeout time.Duration, host Host, open func(context.Context) (*Conn, error)) (*Conn, error) {
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
		err = host.ExplainTimeout(time.Since(began))
	}
	cancel()
	opened := func() {}
	if host != nil {
		opened = host.LeaveOpening()
	}
	left <- opened
	return nil, err
}

// dial gives what open returns to who waits for it, if that has not left.
func dial(ctx context.Context, l *slog.Logger, open func(context.Context) (*Conn, error), done chan<- dialing, left <-chan func()) {
	d := dialing{err: errGoexit}
	defer func() {
		select {
		case done <- d:
		case closed := <-left:
			defer closed() // also if the driver panics
			d.close()
		}
	}()
	if panicked := Contain(l, func() { d.conn, d.err = open(ctx) }); panicked != nil {
		d.err = panicked
	}
}

func (d dialing) close() {
	if d.conn != nil {
		d.conn.Close()
	}
}
