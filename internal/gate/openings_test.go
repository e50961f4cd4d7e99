package gate

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// TestLeftOpeningKeepsTheGate until it is over, and five seconds at most: a hook may never return.
func TestLeftOpeningKeepsTheGate(t *testing.T) {
	for name, after := range map[string]time.Duration{"ends": time.Second, "never ends": time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := New("gate", nil)
				var p Place
				p.Come(g)
				if err := g.lock.Acquire(context.Background(), rwlock.Exclusive, &p.Hold, rwlock.Wait{}); err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				time.AfterFunc(after, g.LeaveOpening())
				p.Leave()
				p.Leave()
				var next rwlock.Hold
				if err := g.lock.Acquire(context.Background(), rwlock.Exclusive, &next, rwlock.Wait{Timeout: time.Minute}); err != nil {
					t.Fatal(err)
				}
				if got, want := time.Since(start), min(after, openingTime); got != want {
					t.Errorf("the gate was kept for %v, want %v", got, want)
				}
				next.Release()
				time.Sleep(2 * after) // what comes late does no harm
				if n := g.openings.count.Load(); n != 0 || len(g.openings.kept) != 0 {
					t.Errorf("%d openings and %d places are left", n, len(g.openings.kept))
				}
			})
		})
	}
}
