package rwlock_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// A rideScene is a gate that one has, with a user's lock, and those who wait for it.
type rideScene struct {
	t     *testing.T
	gate  *rwlock.Lock
	users *rwlock.Table
	at    rwlock.Hold // of the one who has the gate
	lock  rwlock.Hold // of user "leader"
	batch rwlock.Batch
}

func newRideScene(t *testing.T) *rideScene {
	s := &rideScene{t: t, gate: rwlock.NewGate("gate"), users: rwlock.NewTable()}
	s.must(rwlock.AcquireGated(context.Background(), rwlock.Wait{}, rwlock.Request{Lock: s.gate, Mode: rwlock.Exclusive, Hold: &s.at},
		rwlock.Request{Table: s.users, Key: "leader", Mode: rwlock.Exclusive, Hold: &s.lock}))
	s.batch.Begin(&s.at, &s.lock)
	return s
}

func (s *rideScene) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// wait has a request with a ride, which may be nil, wait for the gate and the lock of the user.
func (s *rideScene) wait(ctx context.Context, user string, ride any) (err chan error, h *rwlock.Hold) {
	err, h = make(chan error, 1), new(rwlock.Hold)
	go func() {
		w := rwlock.Wait{Timeout: time.Minute, Ride: ride}
		gate := rwlock.Request{Lock: s.gate, Mode: rwlock.Exclusive, Hold: new(rwlock.Hold)}
		e := rwlock.AcquireGated(ctx, w, gate, rwlock.Request{Table: s.users, Key: user, Mode: rwlock.Exclusive, Hold: h})
		if e == nil {
			gate.Hold.Release()
		}
		err <- e
	}()
	synctest.Wait()
	return err, h
}

func (s *rideScene) take() any { return s.batch.Take(func(any) bool { return true }, nil) }

func (s *rideScene) wants(want ...any) {
	s.t.Helper()
	for _, ride := range want {
		if got := s.take(); got != ride {
			s.t.Fatalf("took %v, want %v", got, ride)
		}
	}
}

// TestBatch takes who waits in turn, several of one user too, up to one that has no ride.
func TestBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRideScene(t)
		ctx := context.Background()
		a, aHold := s.wait(ctx, "a", "a1")
		b, _ := s.wait(ctx, "b", "b")
		a2, a2Hold := s.wait(ctx, "a", "a2")
		own, _ := s.wait(ctx, "leader", "own")
		last, lastHold := s.wait(ctx, "c", nil)
		behind, behindHold := s.wait(ctx, "d", "d")
		if s.batch.Take(func(ride any) bool { return ride != "a1" }, nil) != nil {
			t.Error("one was taken that may not be")
		}
		s.wants("a1", "b", "a2", "own", nil)
		if !aHold.Held() || a2Hold.Held() {
			t.Error("the first of a user has to have the lock, for all of that user")
		}
		reader := new(rwlock.Hold)
		if s.users.TryAcquire("a", rwlock.Shared, reader) {
			t.Error("the lock of one in the batch is free")
		}
		s.batch.End()
		for _, err := range []chan error{a, b, a2, own} {
			if e := <-err; e != rwlock.ErrTaken {
				t.Errorf("got %v, want ErrTaken", e)
			}
		}
		if !s.users.TryAcquire("a", rwlock.Shared, reader) || !s.lock.Held() {
			t.Error("the locks of the batch are to be released, and the leader's not")
		}
		reader.Release()
		s.lock.Release()
		s.at.Release()
		s.must(<-last)
		lastHold.Release()
		s.must(<-behind)
		behindHold.Release()
		if n := s.users.Len(); n != 0 {
			t.Errorf("%d users have a lock at the end", n)
		}
	})
}

// TestBatchNeedsTheLock: one whose user's lock another has is not taken, nor one who comes after somebody
// else who waits for it; and nobody behind.
func TestBatchNeedsTheLock(t *testing.T) {
	for _, mode := range []rwlock.Mode{rwlock.Shared, rwlock.Exclusive} {
		t.Run(fmt.Sprint(mode), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newRideScene(t)
				ctx := context.Background()
				var held rwlock.Hold
				s.must(s.users.Acquire(ctx, "a", mode, &held, rwlock.Wait{}))
				a, aHold := s.wait(ctx, "a", "a")
				b, bHold := s.wait(ctx, "b", "b")
				s.wants(nil)
				held.Release()
				synctest.Wait()
				s.wants("a", "b", nil)
				s.batch.End()
				<-a
				<-b
				if aHold.Held() || bHold.Held() {
					t.Error("a lock is left")
				}
				// A section of the user's waits before the next one.
				s.batch.Begin(&s.at, &s.lock)
				s.must(s.users.Acquire(ctx, "a", rwlock.Shared, &held, rwlock.Wait{}))
				section := rwlock.Hold{Kind: rwlock.Section}
				got := make(chan error, 1)
				go func() {
					got <- s.users.Acquire(ctx, "a", rwlock.Exclusive, &section, rwlock.Wait{Timeout: time.Minute})
				}()
				synctest.Wait()
				a, _ = s.wait(ctx, "a", "a")
				held.Release()
				synctest.Wait()
				s.wants(nil)
				s.must(<-got)
				section.Release()
				s.wants("a", nil)
				s.batch.End()
				<-a
				s.lock.Release()
				s.at.Release()
			})
		})
	}
}

// TestBatchKeepsTheOrderOfAUser: a section that waits for the lock of one in the batch comes before the next
// of that user.
func TestBatchKeepsTheOrderOfAUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRideScene(t)
		ctx := context.Background()
		first, _ := s.wait(ctx, "a", "first")
		s.wants("first")
		section := rwlock.Hold{Kind: rwlock.Section}
		got := make(chan error, 1)
		go func() {
			got <- s.users.Acquire(ctx, "a", rwlock.Exclusive, &section, rwlock.Wait{Timeout: time.Minute})
		}()
		synctest.Wait()
		next, nextHold := s.wait(ctx, "a", "next")
		s.wants(nil)
		s.batch.End()
		<-first
		s.must(<-got)
		s.lock.Release()
		s.at.Release()
		synctest.Wait()
		if nextHold.Held() {
			t.Error("the next of the user has the lock beside the section")
		}
		section.Release()
		s.must(<-next)
		nextHold.Release()
	})
}

// TestBatchOfOneUser: those of the leader's own user are taken too when they have had their turn at the
// gate, and let pass there whoever comes.
func TestBatchOfOneUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRideScene(t)
		ctx := context.Background()
		var held rwlock.Hold
		s.must(s.users.Acquire(ctx, "a", rwlock.Exclusive, &held, rwlock.Wait{}))
		a, _ := s.wait(ctx, "a", "a")
		first, _ := s.wait(ctx, "leader", "first")
		second, _ := s.wait(ctx, "leader", "second")
		s.batch.End()
		s.at.Release()
		synctest.Wait()
		s.must(s.gate.Acquire(ctx, rwlock.Exclusive, &s.at, rwlock.Wait{}))
		s.batch.Begin(&s.at, &s.lock)
		b, _ := s.wait(ctx, "b", "b")
		s.wants("first", "second", "b", nil)
		s.batch.End()
		for _, err := range []chan error{first, second, b} {
			if e := <-err; e != rwlock.ErrTaken {
				t.Errorf("got %v, want ErrTaken", e)
			}
		}
		s.lock.Release()
		held.Release()
		s.at.Release()
		s.must(<-a)
	})
}

// TestTakenAndGone: who was taken does not give up by itself, but returns when its context ends, and then
// the batch keeps the lock.
func TestTakenAndGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRideScene(t)
		ctx, cancel := context.WithCancel(context.Background())
		gone, goneHold := s.wait(ctx, "a", "a")
		stays, _ := s.wait(context.Background(), "b", "b")
		left, _ := s.wait(ctx, "c", nil)
		s.wants("a", "b", nil)
		time.Sleep(2 * time.Minute) // the time to wait is over
		select {
		case err := <-stays:
			t.Errorf("a request that was taken has ended with %v", err)
		default:
		}
		var w *rwlock.WaitError
		if err := <-left; !errors.As(err, &w) || !errors.Is(err, rwlock.ErrTimeout) {
			t.Errorf("one that was not taken: %v", err)
		}
		cancel()
		if err := <-gone; err != rwlock.ErrTaken {
			t.Errorf("got %v, want ErrTaken", err)
		}
		if !goneHold.Held() {
			t.Error("the lock of the one that has gone is free")
		}
		s.batch.End()
		if err := <-stays; err != rwlock.ErrTaken {
			t.Errorf("got %v, want ErrTaken", err)
		}
		if goneHold.Held() {
			t.Error("its lock is left")
		}
		s.lock.Release()
		s.at.Release()
	})
}
