package gate

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// TestLease lasts for its time, and not for that of one before it, whose timer fires late.
func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New("gate", nil)
		var p Place
		lease := func() {
			t.Helper()
			p.Come(g)
			ask := Passage{Gate: g, Mode: rwlock.Exclusive}
			ask.Await()
			err := ask.Acquire(context.Background(), &p, rwlock.Wait{})
			ask.End(&p, err == nil)
			if err != nil {
				t.Fatal(err)
			}
			p.Lease(time.Second)
		}
		lease()
		time.Sleep(time.Second - 1)
		if !p.Resume(g) || !p.IsAlone() {
			t.Fatal("the lease has not lasted")
		}
		p.Leave()
		lease()
		time.Sleep(time.Second / 2)
		g.lease.lapse() // of one before
		if !p.Resume(g) || !p.IsAlone() {
			t.Fatal("the lease has ended with one before it")
		}
		if new(Place).Resume(g) {
			t.Fatal("another place has got it")
		}
		p.Leave()
		lease()
		time.Sleep(time.Second)
		synctest.Wait()
		if p.Resume(g) || p.IsHeld() {
			t.Fatal("the lease has not ended")
		}
		g.InUse(func(what string, n int) {
			if n != 0 {
				t.Errorf("%s: %d are left", what, n)
			}
		})
	})
}

// TestLeasesThatLapse are not taken again and again: each keeps the gate for nothing.
func TestLeasesThatLapse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New("gate", nil)
		const begins = 10_000
		leases := func(lapse bool) (n int) {
			t.Helper()
			for range begins {
				if !g.MayLease() {
					continue
				}
				n++
				var p Place
				p.Come(g)
				ask := Passage{Gate: g, Mode: rwlock.Exclusive}
				ask.Await()
				err := ask.Acquire(context.Background(), &p, rwlock.Wait{})
				ask.End(&p, err == nil)
				if err != nil {
					t.Fatal(err)
				}
				p.Lease(time.Second)
				if lapse {
					time.Sleep(2 * time.Second)
				} else if !p.Resume(g) {
					t.Fatal("the lease has not lasted")
				}
				p.Leave()
			}
			return n
		}
		if n := leases(false); n != begins {
			t.Errorf("%d of %d may lease where none lapses, want all", n, begins)
		}
		if n := leases(true); n > 20 {
			t.Errorf("%d of %d may lease where each lapses", n, begins)
		}
		if n := leases(false); n < begins/2 {
			t.Errorf("%d of %d may lease where none lapses any more", n, begins)
		}
	})
}
