package scope

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// newPermits returns a Scope that has permits for a handle with so many connections.
func newPermits(t *testing.T, maxOpenConns int) *Scope {
	var table Table
	if err := table.Open(true); err != nil {
		t.Fatal(err)
	}
	s := New(nil, &table, "")
	s.Limit(maxOpenConns)
	return s
}

func reader(user string) Ask {
	return Ask{Users: []string{user}, Shared: true, Owner: new(rwlock.Owner)}
}
func writer(user string) Ask { return Ask{Users: []string{user}, Owner: new(rwlock.Owner)} }

// A permitScene has calls that wait for permits.
type permitScene struct {
	*testing.T
	scope *Scope
	order []string // in which they had them
}

// await has a call wait for a permit, and returns it, and its error when it has ended.
func (s *permitScene) await(ctx context.Context, name string, a Ask, timeout time.Duration) (*Permit, chan error) {
	p, done := new(Permit), make(chan error, 1)
	go func() {
		err := s.scope.AwaitPermit(ctx, p, a, nil, nil, rwlock.Wait{Timeout: timeout})
		if err == nil {
			s.order = append(s.order, name)
		}
		done <- err
	}()
	synctest.Wait()
	return p, done
}

func (s *permitScene) expect(want ...string) {
	s.Helper()
	synctest.Wait()
	if fmt.Sprint(s.order) != fmt.Sprint(want) {
		s.Fatalf("had permits: %v, want %v", s.order, want)
	}
}

func inPermitScene(t *testing.T, maxOpenConns int, f func(s *permitScene)) {
	synctest.Test(t, func(t *testing.T) {
		s := &permitScene{T: t, scope: newPermits(t, maxOpenConns)}
		f(s)
		synctest.Wait()
		if n := s.scope.permits.users.Len(); n != 0 {
			t.Errorf("permits of %d users are left", n)
		}
		if p := s.scope.permits.pool; p != nil && p.Len() != 0 {
			t.Errorf("%d permits of the handle are left", p.Len())
		}
	})
}

// TestPermitsAreOfHalfTheConnections: no more wait at the server than half of what the handle may have, and one at least.
func TestPermitsAreOfHalfTheConnections(t *testing.T) {
	for _, tc := range []struct{ conns, want int }{{1, 1}, {2, 1}, {3, 1}, {4, 2}, {80, 40}, {0, 100}} {
		inPermitScene(t, tc.conns, func(s *permitScene) {
			permits := make([]Permit, 100)
			had := 0
			for i := range permits {
				if s.scope.TryPermit(&permits[i], writer(fmt.Sprint(i))) {
					had++
				}
			}
			if had != tc.want {
				s.Errorf("max_open_conns=%d: %d had permits, want %d", tc.conns, had, tc.want)
			}
			for i := range permits {
				permits[i].Release()
			}
		})
	}
}

// TestOneReaderOfAUserWaitsAtTheServer: the others wait for their turn in the process, in the order in which they came.
func TestOneReaderOfAUserWaitsAtTheServer(t *testing.T) {
	inPermitScene(t, 0, func(s *permitScene) {
		ctx := context.Background()
		var first, other Permit
		if !s.scope.TryPermit(&first, reader("u")) || s.scope.TryPermit(&other, reader("u")) || !s.scope.TryPermit(&other, reader("v")) {
			s.Fatal("want one permit for each user")
		}
		a, _ := s.await(ctx, "a", reader("u"), time.Minute)
		b, _ := s.await(ctx, "b", reader("u"), time.Minute)
		if s.scope.TryPermit(new(Permit), reader("u")) {
			s.Fatal("one who came last had a permit before those who wait")
		}
		s.expect()
		first.Release()
		s.expect("a")
		a.Release()
		s.expect("a", "b")
		b.Release()
		other.Release()
	})
}

// TestUsersTakeTurnsForPermits: one with many calls keeps another from none but one turn.
func TestUsersTakeTurnsForPermits(t *testing.T) {
	inPermitScene(t, 2, func(s *permitScene) {
		ctx := context.Background()
		var first Permit
		s.scope.TryPermit(&first, writer("w"))
		a, _ := s.await(ctx, "a", reader("u"), time.Minute)
		b, _ := s.await(ctx, "b", reader("u"), time.Minute)
		c, _ := s.await(ctx, "c", writer("v"), time.Minute)
		first.Release()
		s.expect("a")
		a.Release()
		s.expect("a", "c")
		c.Release()
		s.expect("a", "c", "b")
		b.Release()
	})
}

// TestPermitWaitsEnd: with the context or the time, and then who is behind has the turn.
func TestPermitWaitsEnd(t *testing.T) {
	for _, conns := range []int{0, 2} { // where the user's is waited for, and the handle's
		inPermitScene(t, conns, func(s *permitScene) {
			ask := func() Ask { return reader("u") }
			if conns > 0 {
				n := 0
				ask = func() Ask { n++; return writer(fmt.Sprint(n)) }
			}
			var first Permit
			s.scope.TryPermit(&first, ask())
			ctx, cancel := context.WithCancel(context.Background())
			_, cancelled := s.await(ctx, "a", ask(), time.Minute)
			_, late := s.await(context.Background(), "b", ask(), time.Second)
			c, _ := s.await(context.Background(), "c", ask(), time.Minute)
			cancel()
			if err := <-cancelled; !errors.Is(err, context.Canceled) {
				s.Errorf("got %v, want that of the context", err)
			}
			if err := <-late; !errors.Is(err, rwlock.ErrTimeout) {
				s.Errorf("got %v, want a timeout", err)
			}
			first.Release()
			s.expect("c")
			c.Release()
		})
	}
}

// TestPermitsHaveOneTimeout: the wait for the user's permit and that for the handle's share it.
func TestPermitsHaveOneTimeout(t *testing.T) {
	inPermitScene(t, 2, func(s *permitScene) {
		var first Permit
		s.scope.TryPermit(&first, reader("u"))
		began := time.Now()
		_, done := s.await(context.Background(), "a", reader("u"), 3*time.Second)
		time.Sleep(2 * time.Second)
		first.user.Release() // the handle's is still there
		if err := <-done; !errors.Is(err, rwlock.ErrTimeout) || time.Since(began) > 3*time.Second+10*time.Millisecond {
			s.Errorf("got %v after %v, want a timeout after 3s", err, time.Since(began))
		}
		first.Release()
	})
}

// TestPermitsInACircle: two who each wait for what the other has, one of them for a permit, are told.
func TestPermitsInACircle(t *testing.T) {
	inPermitScene(t, 0, func(s *permitScene) {
		users := rwlock.NewTable()
		a, b := new(rwlock.Owner), new(rwlock.Owner)
		held := rwlock.Hold{Owner: b, Kind: rwlock.Tx} // of b, which is going to wait for a permit
		if err := users.Acquire(context.Background(), "x", rwlock.Exclusive, &held, rwlock.Wait{}); err != nil {
			s.Fatal(err)
		}
		var permit Permit
		first := reader("u")
		first.Owner = a
		s.scope.TryPermit(&permit, first)
		waits := make(chan error, 1)
		wanted := rwlock.Hold{Owner: a, With: permit.Link(a)}
		go func() {
			waits <- users.Acquire(context.Background(), "x", rwlock.Exclusive, &wanted, rwlock.Wait{Timeout: time.Minute})
		}()
		synctest.Wait()
		second := reader("u")
		second.Owner = b
		_, done := s.await(context.Background(), "b", second, time.Minute)
		if err := <-done; !errors.Is(err, rwlock.ErrDeadlock) {
			s.Errorf("got %v, want ErrDeadlock", err)
		}
		held.Release()
		if err := <-waits; err != nil {
			s.Error(err)
		}
		wanted.Release()
		permit.Release()
	})
}

// TestPermitsAreHadWholeOrNot: who has that of the user but not that of the handle at once keeps nobody waiting.
func TestPermitsAreHadWholeOrNot(t *testing.T) {
	inPermitScene(t, 2, func(s *permitScene) {
		var first, second Permit
		s.scope.TryPermit(&first, writer("w"))
		if s.scope.TryPermit(&second, reader("u")) {
			s.Fatal("had a permit of a handle that has no more")
		}
		if n := s.scope.permits.users.Len(); n != 0 {
			s.Errorf("after a try in vain the permits of %d users are taken", n)
		}
		first.Release()
		if !s.scope.TryPermit(&second, reader("u")) {
			s.Error("had no permit though there is one")
		}
		second.Release()
	})
}
