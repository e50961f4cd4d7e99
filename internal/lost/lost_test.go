package lost

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/server"
)

// A fakeServer has the sessions that are alive. It counts what it is asked to keep.
type fakeServer struct {
	mu             sync.Mutex
	alive          []server.Session
	fails          func() error // of the next look; may be nil
	retained       int
	opened, closed int
}

func (s *fakeServer) Reserve() Reserved { return &fakeConn{s: s} }
func (s *fakeServer) Retain()           { s.retained++ }
func (s *fakeServer) Release()          { s.retained-- }

func (s *fakeServer) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

type fakeConn struct {
	s    *fakeServer
	open bool
}

func (c *fakeConn) Survivors(context.Context, []server.Session) ([]server.Session, error) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if !c.open {
		c.open = true
		c.s.opened++
	}
	if fails := c.s.fails; fails != nil {
		c.s.fails = nil
		return nil, fails()
	}
	return slices.Clone(c.s.alive), nil
}

func (c *fakeConn) Close() {
	if c.open {
		c.open = false
		c.s.closed++
	}
}

// lose takes the lock of user 1, and leaves it to a session.
func lose(t *testing.T, ls *Sessions, table *locks.Table, s server.Session) {
	t.Helper()
	var h locks.Hold
	err := table.Acquire(t.Context(), "1", rwlock.Exclusive, &h, nil, rwlock.Wait{})
	if err != nil {
		t.Fatal(err)
	}
	h.User = "1"
	ls.Adopt(s, &h)
	if h.HasLock() {
		t.Error("the call has the lock still")
	}
}

// TestLockIsKeptUntilTheServerHasEndedTheSession, also when to ask for that fails, or panics, and then as long as
// cancel_grace at most.
func TestLockIsKeptUntilTheServerHasEndedTheSession(t *testing.T) {
	const grace = 10 * time.Second
	one := server.Session{ID: "7"}
	for name, tc := range map[string]struct {
		fails func() error
		ends  time.Duration // 0: never
		kept  time.Duration
	}{
		"it ends":                       {nil, 3 * time.Second, 3 * time.Second},
		"it ends, after an error":       {func() error { return errors.New("gone") }, 3 * time.Second, 3 * time.Second},
		"it ends, after a panic":        {func() error { panic("gone") }, 3 * time.Second, 3 * time.Second},
		"it does not end before it has": {nil, 0, grace},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				table, s := locks.NewTable(), &fakeServer{alive: []server.Session{one}, fails: tc.fails}
				ls := New(s, table, grace, slog.New(slog.NewTextHandler(&log, nil)))
				start := time.Now()
				lose(t, ls, table, one)
				if tc.ends > 0 {
					time.AfterFunc(tc.ends, func() { s.set(func() { s.alive = nil }) })
				}
				var next locks.Hold
				err := table.Acquire(t.Context(), "1", rwlock.Exclusive, &next, nil, rwlock.Wait{Timeout: time.Minute})
				if err != nil {
					t.Fatal(err)
				}
				if kept := time.Since(start); kept < tc.kept || kept > tc.kept+100*time.Millisecond {
					t.Errorf("the lock was kept for %v, want %v", kept, tc.kept)
				}
				next.Release()
				synctest.Wait()
				if n, _ := ls.InUse(); n != 0 || s.retained != 0 || s.opened != s.closed {
					t.Errorf("%d sessions are left, %d references, %d of %d connections", n, s.retained, s.opened-s.closed, s.opened)
				}
				if warned := strings.Contains(log.String(), "cancel_grace"); warned != (tc.ends == 0) {
					t.Errorf("logged %q", log.String())
				}
			})
		})
	}
}
