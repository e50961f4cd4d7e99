package server

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/calmdocs/dblocker/internal/fakedriver"
	"github.com/calmdocs/dblocker/internal/rwlock"
)

// drawBoth draws two connections, and gives them back.
func drawBoth(t *testing.T, p *Pool) [2]*Conn {
	t.Helper()
	a, err := p.Connect(t.Context())
	must(t, err)
	b, err := p.Connect(t.Context())
	must(t, err)
	a.GiveBack()
	b.GiveBack()
	return [2]*Conn{a.Conn, b.Conn}
}

// TestShelf: a connection that was just used is drawn again without the sql.DB, for which it is in use meanwhile;
// after shelfTime it is back there. The statistics do not show the difference.
func TestShelf(t *testing.T) {
	for _, isLocal := range []bool{false, true} {
		t.Run(fmt.Sprint(isLocal), func(t *testing.T) { testShelf(t, isLocal) })
	}
}

func testShelf(t *testing.T, isLocal bool) {
	synctest.Test(t, func(t *testing.T) {
		s := fakedriver.NewServer(fakedriver.Full())
		p := newLimitedPool(newHost(), s.Connector(), isLocal, Limits{MaxIdleConns: 2})
		first := drawBoth(t, p)
		inDB := func() (inUse, idle int) {
			st := p.inner.db().Stats()
			return st.InUse, st.Idle
		}
		if inUse, idle := inDB(); inUse != 2 || idle != 0 {
			t.Errorf("for the sql.DB %d connections are in use and %d idle, while two are on the shelf", inUse, idle)
		}
		if st := p.Stats(); st.InUse != 0 || st.Idle != 2 {
			t.Errorf("%d connections are in use and %d idle; want 0 and 2", st.InUse, st.Idle)
		}
		want := [2]*Conn{first[1], first[0]}
		if isLocal {
			want = first
		}
		if again := drawBoth(t, p); again != want {
			t.Error("others were drawn than those on the shelf, or not in their order")
		}
		time.Sleep(2 * shelfTime)
		synctest.Wait()
		if inUse, idle := inDB(); inUse != 0 || idle != 2 {
			t.Errorf("after %v %d connections are in use and %d idle in the sql.DB", 2*shelfTime, inUse, idle)
		}
		if st := p.Stats(); st.InUse != 0 || st.Idle != 2 {
			t.Errorf("%d connections are in use and %d idle after that; want 0 and 2", st.InUse, st.Idle)
		}
		drawBoth(t, p)
		must(t, p.Close())
		if n := s.Open(); n != 0 {
			t.Errorf("%d connections are open after the pool is closed", n)
		}
		time.Sleep(2 * shelfTime)
	})
}

// TestShelfAndLifetime: a connection that is always in use, or on the shelf, does not outlive its time.
func TestShelfAndLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lifetime = 10 * shelfTime
		s := fakedriver.NewServer(fakedriver.Full())
		p := newLimitedPool(newHost(), s.Connector(), false, Limits{MaxIdleConns: 2, ConnMaxLifetime: lifetime})
		first := drawBoth(t, p)
		for range 3 * lifetime / time.Millisecond {
			d, err := p.Connect(t.Context())
			must(t, err)
			time.Sleep(time.Millisecond) // in use, so that no round finds it on the shelf
			d.GiveBack()
		}
		for _, sc := range drawBoth(t, p) {
			if sc == first[0] || sc == first[1] {
				t.Errorf("a connection is in use after %v, which may live for %v", 3*lifetime, lifetime)
			}
		}
		must(t, p.Close())
		time.Sleep(2 * shelfTime)
	})
}

// TestShelfIsLeft while the sql.DB is the program's, or its limits leave no room for the shelf.
func TestShelfIsLeft(t *testing.T) {
	wantEmpty := func(p *Pool, why string) {
		t.Helper()
		drawBoth(t, p)
		if n := p.inner.shelf.len(); n != 0 {
			t.Errorf("%s: %d connections are on the shelf", why, n)
		}
		must(t, p.Close())
	}
	s := fakedriver.NewServer(fakedriver.Full())
	p := newLimitedPool(newHost(), s.Connector(), false, Limits{MaxIdleConns: 2})
	drawBoth(t, p)
	if st := p.DB().Stats(); st.InUse != 0 || st.Idle != 2 {
		t.Errorf("the sql.DB shows %d connections in use and %d idle; want 0 and 2", st.InUse, st.Idle)
	}
	p.DB()
	wantEmpty(p, "the program has the sql.DB")
	wantEmpty(newLimitedPool(newHost(), s.Connector(), false, Limits{}), "none is to be idle")
	wantEmpty(newLimitedPool(newHost(), s.Connector(), false, Limits{MaxIdleConns: 2, ConnMaxIdleTime: time.Millisecond}), "none is to be idle for long")
	wantEmpty(newLimitedPool(newHost(), s.Connector(), false, Limits{MaxIdleConns: 2, ConnMaxLifetime: time.Millisecond}), "none is to live for long")
	if n := s.Open(); n != 0 {
		t.Errorf("%d connections are open at the end", n)
	}
}

// TestNobodyWaitsBesideTheShelf: who waits for one of a limited number of connections in the sql.DB has the next
// that is given back, at once.
func TestNobodyWaitsBesideTheShelf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newLimitedPool(newHost(), fakedriver.NewServer(fakedriver.Full()).Connector(), false, Limits{MaxIdleConns: 1, MaxOpenConns: 1})
		d, err := p.Connect(t.Context())
		must(t, err)
		start := time.Now()
		go func() {
			synctest.Wait() // the test waits in the sql.DB
			d.GiveBack()
		}()
		d, err = p.Connect(t.Context())
		must(t, err)
		if waited := time.Since(start); waited != 0 {
			t.Errorf("a connection that was given back came after %v", waited)
		}
		d.GiveBack()
		must(t, p.Close())
		time.Sleep(2 * shelfTime)
	})
}

// TestShelfIsLeftByWhoComesLate: a connection does not stay on the shelf whose place was found before others wanted it in
// the sql.DB, and taken after that.
func TestShelfIsLeftByWhoComesLate(t *testing.T) {
	p := newLimitedPool(newHost(), fakedriver.NewServer(fakedriver.Full()).Connector(), false, Limits{MaxIdleConns: 1})
	d, err := p.Connect(t.Context())
	must(t, err)
	s := &p.inner.shelf
	s.wants()
	s.place(d.Conn)
	s.placed()
	if s.len() != 0 || p.inner.db().Stats().Idle != 1 {
		t.Error("the connection is on the shelf")
	}
	must(t, p.Close())
}

// TestShelfLosesNothing: all connections are closed at the end, however many have used them at a time, also while
// idle ones are closed.
func TestShelfLosesNothing(t *testing.T) {
	for _, limit := range []int{0, 2, 3} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			s := fakedriver.NewServer(fakedriver.Full())
			p := newLimitedPool(newHost(), s.Connector(), false, Limits{MaxIdleConns: 2, MaxOpenConns: limit})
			var all sync.WaitGroup
			for i := range 8 {
				all.Go(func() {
					for j := range 3000 {
						var slot rwlock.Hold
						d, err := p.Draw(t.Context(), &slot, rwlock.Wait{Timeout: time.Minute})
						if err != nil {
							t.Error(err)
							return
						}
						d.GiveBack()
						slot.Release()
						if i == 0 && j%100 == 0 {
							p.CloseIdle()
						}
					}
				})
			}
			all.Wait()
			must(t, p.Close())
			if n := s.Open(); n != 0 {
				t.Errorf("%d connections are open at the end", n)
			}
		})
	}
}

// TestPassingIsAwaited: a program that has one connection, one use after the other, has the same all the time, with the state of its session,
// also while that passes from the shelf to the sql.DB. Who asks for the statistics has it pass, as the timer does.
func TestPassingIsAwaited(t *testing.T) {
	s := fakedriver.NewServer(fakedriver.Full())
	p := newLimitedPool(newHost(), s.Connector(), false, Limits{MaxIdleConns: 2})
	defer p.Close()
	var first *Conn
	var others sync.WaitGroup
	defer others.Wait()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	others.Go(func() {
		for ctx.Err() == nil {
			p.Stmts()
		}
	})
	for range 5000 {
		d, err := p.Connect(t.Context())
		must(t, err)
		if first == nil {
			first = d.Conn
		}
		d.GiveBack()
		if d.Conn != first {
			t.Fatal("another connection was drawn, while nobody used the first one")
		}
	}
}

// TestPassingIsNotAwaited of a connection that is closed, however long that takes, nor beyond the context.
func TestPassingIsNotAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := fakedriver.NewServer(fakedriver.Full())
		p := newLimitedPool(newHost(), s.Connector(), false, Limits{MaxIdleConns: 2})
		sh := &p.inner.shelf
		over := make(chan struct{})
		sh.passing.Store(&passage{func() {}, over}) // of which nothing is heard
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.Connect(ctx); err != context.DeadlineExceeded {
			t.Errorf("a context that ends leaves %v", err)
		}
		close(over) // as when the connection is being closed, which takes as long as the driver likes
		d, err := p.Connect(t.Context())
		must(t, err)
		d.GiveBack()
		sh.passing.Store(nil)

		d, err = p.Connect(t.Context())
		must(t, err)
		ended := false
		d.Conn.passing = &passage{end: func() { ended = true }}
		d.Discard()
		if !ended {
			t.Error("a connection that is closed is still awaited")
		}
		must(t, p.Close())
	})
}

// TestCloseWaitsForTheShelf: what the timer is just taking off the shelf is closed when Close returns, too.
func TestCloseWaitsForTheShelf(t *testing.T) {
	p := newLimitedPool(newHost(), fakedriver.NewServer(fakedriver.Full()).Connector(), false, Limits{MaxIdleConns: 2})
	p.inner.shelf.ending.Lock() // as the timer does
	closed := make(chan error, 1)
	go func() { closed <- p.Close() }()
	select {
	case <-closed:
		t.Error("Close has not waited")
	case <-time.After(50 * time.Millisecond):
		p.inner.shelf.ending.Unlock()
		must(t, <-closed)
	}
}

// TestCrowdIsNotJoined: where many connections to a local database are in use, the next caller has the first that is
// given back, and another is opened only if none is in the time in which that could be done.
func TestCrowdIsNotJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := fakedriver.NewServer(fakedriver.Full())
		p := newLimitedPool(newHost(), s.Connector(), true, Limits{MaxIdleConns: 2})
		var crowd []Lease
		draw := func(ctx context.Context) (time.Duration, error) {
			start := time.Now()
			d, err := p.Connect(ctx)
			if err == nil {
				crowd = append(crowd, d)
			}
			return time.Since(start), err
		}
		for range 2 + 2*runtime.GOMAXPROCS(0) {
			if waited, err := draw(t.Context()); waited != 0 || err != nil {
				t.Fatalf("connection %d came after %v: %v", len(crowd)+1, waited, err)
			}
		}
		opened := s.Open()
		go func() {
			time.Sleep(awaitTime / 2)
			crowd[0].GiveBack()
		}()
		if waited, err := draw(t.Context()); waited != awaitTime/2 || err != nil || s.Open() != opened {
			t.Errorf("beside %d connections in use the next came after %v, and %d are open: %v", opened, waited, s.Open(), err)
		}
		if waited, err := draw(t.Context()); waited != awaitTime || err != nil || s.Open() != opened+1 {
			t.Errorf("where none is given back, the next came after %v, and %d are open: %v", waited, s.Open(), err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(awaitTime/2, cancel)
		if waited, err := draw(ctx); waited != awaitTime/2 || err != context.Canceled {
			t.Errorf("a context that ends while one is awaited leaves %v after %v", err, waited)
		}
		for _, d := range crowd[1:] {
			d.GiveBack()
		}
		must(t, p.Close())
		if n := s.Open(); n != 0 {
			t.Errorf("%d connections are open at the end", n)
		}
		time.Sleep(2 * shelfTime)
	})
}
