package rwlock_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// Whoever waits may know better than the locks that it waits for ever.
func TestHopelessWaitEnds(t *testing.T) {
	for _, owner := range []*rwlock.Owner{nil, new(rwlock.Owner)} {
		eachLocker(t, func(t *testing.T, s *scene, l locker) {
			first := &request{s: s}
			first.Label, first.Kind, first.Work = rwlock.Tagged("first"), rwlock.Tx, "work"
			if err := try(l, exclusive, &first.Hold); err != nil {
				t.Fatal(err)
			}
			before := s.ask("before", exclusive, l)
			var asked [][]any
			var at []time.Duration
			w := rwlock.Wait{Timeout: long, Self: selfWait, Hopeless: func(holders []any, waited, self time.Duration) int {
				asked, at = append(asked, holders), append(at, waited)
				if len(asked) < 3 {
					return -1
				}
				return 0
			}}
			waits := s.askWithin(w, "waits", shared, as(owner, rwlock.Leaf, l))
			time.Sleep(2*selfWait - 1)
			if waits.settled.Load() {
				t.Fatalf("too early: %v", waits.err)
			}
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			waits.expectErr(rwlock.ErrDeadlock)
			if want := []time.Duration{0, selfWait, 2 * selfWait}; !slices.Equal(at, want) {
				t.Errorf("asked after %v, want %v", at, want)
			}
			for _, holders := range asked {
				if !slices.Equal(holders, []any{"work"}) {
					t.Errorf("asked about %v", holders)
				}
			}
			var werr *rwlock.WaitError
			if !errors.As(waits.err, &werr) || !werr.Hopeless || werr.Blocker.Tag != "first" || werr.Blocker.Work != "work" || werr.Waited != 2*selfWait {
				t.Errorf("got %#v", werr)
			}
			s.releaseAll(first, before)
		})
	}
}

// A holder that has gone while it was thought about is no reason.
func TestHopeComesBack(t *testing.T) {
	eachLocker(t, func(t *testing.T, s *scene, l locker) {
		var first rwlock.Hold
		first.Work = "work"
		if err := try(l, exclusive, &first); err != nil {
			t.Fatal(err)
		}
		waits := s.askWithin(rwlock.Wait{Timeout: long, Self: selfWait, Hopeless: func([]any, time.Duration, time.Duration) int {
			first.Release()
			return 0
		}}, "waits", exclusive, l)
		s.expectGranted("waits")
		waits.release()
	})
}
