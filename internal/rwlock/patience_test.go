package rwlock_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// TestPatience ends a wait at a gate that one keeps, and none at a gate that goes from one to the next, or for
// the user's lock.
func TestPatience(t *testing.T) {
	const patience = time.Second
	for name, c := range map[string]struct {
		gateFor, lockFor time.Duration // that each holder has it
		holders          int
		want             time.Duration // when the wait ends
		err              error
	}{
		"one keeps the gate":       {gateFor: time.Hour, holders: 1, want: patience, err: rwlock.ErrDeadlock},
		"from one to the next":     {gateFor: patience * 3 / 4, holders: 20, want: 20 * patience * 3 / 4},
		"the last of them keeps":   {gateFor: patience * 5, holders: 2, want: patience, err: rwlock.ErrDeadlock},
		"the user's lock is taken": {gateFor: 1, holders: 1, lockFor: time.Minute, want: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				t.Cleanup(func() { time.Sleep(3 * time.Hour) }) // for the last holders to end
				gate, users := rwlock.NewGate("gate"), rwlock.NewTable()
				must := func(err error) {
					t.Helper()
					if err != nil {
						t.Fatal(err)
					}
				}
				ctx, w := context.Background(), rwlock.Wait{Timeout: 2 * time.Hour}
				for range c.holders {
					go func() {
						var h rwlock.Hold
						must(gate.Acquire(ctx, rwlock.Exclusive, &h, w))
						time.Sleep(c.gateFor)
						h.Release()
					}()
					synctest.Wait()
				}
				if c.lockFor > 0 {
					var h rwlock.Hold
					must(users.Acquire(ctx, "a", rwlock.Exclusive, &h, w))
					time.AfterFunc(c.lockFor, h.Release)
				}
				var at, lock rwlock.Hold
				start := time.Now()
				w.Patience = patience
				err := rwlock.AcquireGated(ctx, w, rwlock.Request{Lock: gate, Mode: rwlock.Exclusive, Hold: &at},
					rwlock.Request{Table: users, Key: "a", Mode: rwlock.Exclusive, Hold: &lock})
				if took := time.Since(start); took < c.want || took > c.want*3/2 || !errors.Is(err, c.err) {
					t.Errorf("it has ended after %v with %v, want %v, %v", took, err, c.want, c.err)
				}
				if err == nil {
					at.Release()
					lock.Release()
				}
			})
		})
	}
}
