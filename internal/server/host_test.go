package server

import (
	"context"
	"database/sql/driver"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/calmdocs/dblocker/internal/fakedriver"
	"github.com/calmdocs/dblocker/internal/rwlock"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// errLate is what a host says of a Connect that takes too long.
var errLate = errors.New("late")

// A host is a Host with nothing around its connections. It counts what it is told.
type host struct {
	drawn, closing, closed, left atomic.Int64
	opened                       chan struct{} // closed when a connection is open whose caller has left
}

func newHost() *host { return &host{opened: make(chan struct{})} }

func (*host) Connect(_ context.Context, _ rwlock.Wait, connect func(bool) error) error {
	return connect(false)
}

func (h *host) LeaveOpening() (opened func()) {
	h.left.Add(1)
	return func() { close(h.opened) }
}

func (*host) Disconnect(disconnect func() error) error { return disconnect() }
func (*host) SetUp(context.Context, *Conn, bool) error { return nil }
func (h *host) Drawn()                                 { h.drawn.Add(1) }
func (h *host) Closing()                               { h.closing.Add(1) }
func (h *host) Closed(*Conn)                           { h.closed.Add(1) }
func (*host) ExplainConnect(err error) error           { return err }
func (*host) ExplainTimeout(time.Duration) error       { return errLate }

// newPool returns a pool whose connections are found in another way if to open one asks no server.
func newPool(h Host, inner driver.Connector, isLocal bool) *Pool {
	return newLimitedPool(h, inner, isLocal, Limits{MaxIdleConns: 2})
}

func newLimitedPool(h Host, inner driver.Connector, isLocal bool, limits Limits) *Pool {
	p := new(Pool)
	if n := limits.MaxOpenConns; n > 0 {
		p.Slots = rwlock.NewLock("slots", n)
	}
	p.Open(&Connector{
		Inner:   inner,
		Config:  Config{Engine: &Engine{KeepFrom: func(driver.Conn) int { return 0 }}, Logger: slog.New(slog.DiscardHandler), StmtCache: 2},
		Host:    h,
		Schema:  new(atomic.Int64),
		Timeout: time.Minute,
		IsLocal: isLocal,
		Limited: limits.MaxOpenConns > 0,
	}, limits)
	return p
}

// connTo returns a connection to a server that has all interfaces.
func connTo(t testing.TB, s *fakedriver.Server) *Conn {
	t.Helper()
	p := newPool(newHost(), s.Connector(), false)
	t.Cleanup(func() { p.Close() })
	d, err := p.Connect(t.Context())
	must(t, err)
	t.Cleanup(d.GiveBack)
	return d.Conn
}
