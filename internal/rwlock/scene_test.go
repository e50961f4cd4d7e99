package rwlock_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// long is a wait that no test is meant to reach the end of.
const long = time.Hour

// locker is what a table's key and a free-standing lock have in common.
type locker func(ctx context.Context, mode rwlock.Mode, h *rwlock.Hold, w rwlock.Wait) error

func keyOf(table *rwlock.Table, key string) locker {
	return func(ctx context.Context, mode rwlock.Mode, h *rwlock.Hold, w rwlock.Wait) error {
		return table.Acquire(ctx, key, mode, h, w)
	}
}

// eachLocker runs a test on a key of a table and on a free-standing lock, and checks
// that it leaves nothing behind. The test runs in a bubble, which also fails
// if it leaves a goroutine.
func eachLocker(t *testing.T, test func(t *testing.T, s *scene, l locker)) {
	t.Run("key", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			table := rwlock.NewTable()
			test(t, &scene{t: t}, keyOf(table, "k"))
			expectIdle(t, table)
		})
	})
	t.Run("lock", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			lock := rwlock.NewLock("k", 0)
			test(t, &scene{t: t}, lock.Acquire)
			expectIdle(t, lock)
		})
	})
}

type snapshotter interface {
	Len() int
	Snapshot() []rwlock.Info
}

func expectIdle(t *testing.T, left snapshotter) {
	t.Helper()
	if left.Len() != 0 || len(left.Snapshot()) != 0 {
		t.Errorf("not idle at the end: %d, %v", left.Len(), left.Snapshot())
	}
}

// scene runs requests one after the other and knows what became of them.
type scene struct {
	t      *testing.T
	unseen []*request // not yet reported as granted, by expectGranted
}

// request is an acquire in a goroutine of its own.
type request struct {
	rwlock.Hold
	s       *scene
	cancel  context.CancelFunc
	settled atomic.Bool // the acquire has returned
	err     error
}

// ask starts a request and returns once it is granted, refused or waiting.
func (s *scene) ask(name string, mode rwlock.Mode, l locker) *request {
	return s.askWithin(rwlock.Wait{Timeout: long}, name, mode, l)
}

func (s *scene) askWithin(w rwlock.Wait, name string, mode rwlock.Mode, l locker) *request {
	return s.start(name, func(ctx context.Context, h *rwlock.Hold) error { return l(ctx, mode, h, w) })
}

func (s *scene) start(name string, acquire func(context.Context, *rwlock.Hold) error) *request {
	ctx, cancel := context.WithCancel(s.t.Context())
	r := &request{s: s, cancel: cancel}
	r.Label = rwlock.Tagged(name)
	go func() {
		r.err = acquire(ctx, &r.Hold)
		r.settled.Store(true)
	}()
	s.unseen = append(s.unseen, r)
	synctest.Wait()
	return r
}

// release releases the request and returns when all that follows has happened.
func (r *request) release() {
	r.Release()
	synctest.Wait()
}

// giveUp cancels the request's context and returns when all that follows has happened.
func (r *request) giveUp() {
	r.cancel()
	synctest.Wait()
}

// expectGranted checks which requests were granted since the last call, in any order.
func (s *scene) expectGranted(names ...string) {
	s.t.Helper()
	var granted []string
	s.unseen = slices.DeleteFunc(s.unseen, func(r *request) bool {
		if !r.settled.Load() || r.err != nil {
			return false
		}
		granted = append(granted, r.Tag())
		return true
	})
	slices.Sort(granted)
	slices.Sort(names)
	if !slices.Equal(granted, names) {
		s.t.Fatalf("granted: [%s], want [%s]", strings.Join(granted, " "), strings.Join(names, " "))
	}
}

func (r *request) expectErr(want error) {
	r.s.t.Helper()
	if !r.settled.Load() || !errors.Is(r.err, want) {
		r.s.t.Fatalf("request %q: settled %v, error %v; want error %v", r.Tag(), r.settled.Load(), r.err, want)
	}
	if r.Held() {
		r.s.t.Fatalf("request %q was refused and is held", r.Tag())
	}
}

// try asks without waiting.
func try(l locker, mode rwlock.Mode, h *rwlock.Hold) error {
	return l(context.Background(), mode, h, rwlock.Wait{})
}

func mustTry(t *testing.T, l locker, mode rwlock.Mode) *rwlock.Hold {
	t.Helper()
	h := new(rwlock.Hold)
	if err := try(l, mode, h); err != nil {
		t.Fatal(err)
	}
	return h
}
