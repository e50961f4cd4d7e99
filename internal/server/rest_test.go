package server

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/calmdocs/dblocker/internal/fakedriver"
)

// A leftover counts what becomes of it. It gives itself up by a statement, as the engines' locks do.
type leftover struct {
	sc            *Conn
	givenUp, lost atomic.Int32
	may           chan struct{} // that it goes on giving itself up; nil at once
}

func (l *leftover) GiveUp() {
	if l.may != nil {
		<-l.may
	}
	l.sc.ExecContext(context.Background(), "give up", nil)
	l.givenUp.Add(1)
}

func (l *leftover) Lost() { l.lost.Add(1) }

func (l *leftover) check(t *testing.T, what string, givenUp, lost int32) {
	t.Helper()
	if g, n := l.givenUp.Load(), l.lost.Load(); g != givenUp || n != lost {
		t.Errorf("%s: given up %d times and lost %d times, want %d and %d", what, g, n, givenUp, lost)
	}
}

func rested(t *testing.T, sc *Conn) *leftover {
	t.Helper()
	l := &leftover{sc: sc}
	if !sc.Rest(l, "u", func() {}) {
		t.Fatal("a lock does not rest on an idle connection")
	}
	return l
}

// TestRestEnds: what rests is given up after a while, at once if somebody waits for it, before something else is sent, and not at all when
// the next call takes it, or the connection is closed. It happens once, and nobody gets the connection meanwhile.
func TestRestEnds(t *testing.T) {
	sc := connTo(t, fakedriver.NewServer(fakedriver.Full()))
	ended := func(what string, l *leftover) {
		t.Helper()
		for until := time.Now().Add(20 * time.Second); sc.rest.state.Load() != nothing; time.Sleep(time.Millisecond) {
			if time.Now().After(until) {
				t.Fatalf("%s: it is not given up", what)
			}
		}
		l.check(t, what, 1, 0)
	}
	ended("after a while", rested(t, sc))

	l := rested(t, sc)
	sc.Wake()
	sc.Hurry()
	l.check(t, "awake", 0, 0)
	sc.LieDown()
	ended("at rest again, and somebody waits", l)

	l = rested(t, sc)
	sc.Wake()
	must(t, sc.Ping(t.Context()))
	l.check(t, "something else is sent", 1, 0)

	l = rested(t, sc)
	if sc.TakeLeft() != Leftover(l) && l.givenUp.Load() == 0 {
		t.Error("it is not to be had")
	}

	l = &leftover{sc: sc, may: make(chan struct{})}
	sc.Rest(l, "u", func() {})
	sc.Hurry()
	for sc.rest.state.Load() != givingUp {
		time.Sleep(time.Millisecond)
	}
	if sc.TryWake(); !sc.IsSettling() {
		t.Error("the connection seems to be free while somebody is at work on it")
	}
	close(l.may)
	sc.Claim()
	ended("who claims the connection waits for it", l)
}

// TestRestIsWaitedFor: whoever comes to a connection on whose lock the timer is at work waits until it has done, also if he wants nothing of the
// lock: two at once would send in between each other.
func TestRestIsWaitedFor(t *testing.T) {
	for name, come := range map[string]func(*Conn){
		"Wake":   (*Conn).Wake,
		"Claim":  (*Conn).Claim,
		"Settle": (*Conn).Settle,
		"TakeLeft": func(sc *Conn) {
			if sc.TakeLeft() != nil {
				t.Error("a lock is to be had that is being given up")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sc := connTo(t, fakedriver.NewServer(fakedriver.Full()))
				l := &leftover{sc: sc, may: make(chan struct{})}
				sc.Rest(l, "u", func() {})
				time.Sleep(2 * restTime)
				var came atomic.Bool
				go func() { come(sc); came.Store(true) }()
				synctest.Wait()
				if came.Load() {
					t.Error("somebody has the connection while the lock is being given up")
				}
				close(l.may)
				synctest.Wait()
				if !came.Load() {
					t.Error("the connection is not to be had when the lock is given up")
				}
				l.check(t, name, 1, 0)
			})
		})
	}
}

// TestRestOfClosedConnection: what rests goes with the connection.
func TestRestOfClosedConnection(t *testing.T) {
	p := newPool(newHost(), fakedriver.NewServer(fakedriver.Full()).Connector(), false)
	defer p.Close()
	for name, end := range map[string]func(d Lease){
		"discarded": Lease.Discard,
		"failed":    func(d Lease) { d.Conn.Fail(); d.GiveBack() },
	} {
		d, err := p.Connect(t.Context())
		must(t, err)
		l := rested(t, d.Conn)
		d.Conn.Wake()
		end(d)
		if l.givenUp.Load() == 0 {
			l.check(t, name, 0, 1)
		}
	}
}

// TestConnectForUser: the connection that has the lock of a user comes to his next call; to others one that has none, if there is one.
func TestConnectForUser(t *testing.T) {
	p := newLimitedPool(newHost(), fakedriver.NewServer(fakedriver.Full()).Connector(), false, Limits{MaxIdleConns: 4})
	defer p.Close()
	p.inner.connector.Config.IsLeft = func(string) bool { return true }
	conns := make([]Lease, 3)
	for i := range conns {
		var err error
		conns[i], err = p.Connect(t.Context())
		must(t, err)
	}
	mine := conns[1].Conn
	mine.rest.left, mine.rest.user = &leftover{sc: mine}, "u" // without a timer, so that it stays
	mine.rest.timer = time.NewTimer(time.Hour)
	mine.rest.state.Store(resting)
	for _, d := range conns {
		d.GiveBack()
	}
	other, err := p.ConnectFor(t.Context(), "v")
	must(t, err)
	d, err := p.ConnectFor(t.Context(), "u")
	must(t, err)
	if other.Conn == mine || d.Conn != mine {
		t.Error("the lock of a user is on the connection of another, or not on his own")
	}
	if d.Conn.TakeLeft() == nil {
		t.Error("it was given up")
	}
	other.GiveBack()
	d.GiveBack()
}

// TestRestInDB: a connection whose lock rests stays to be had when it passes through the sql.DB: no other is opened meanwhile, and the
// lock is still there, until it is given up.
func TestRestInDB(t *testing.T) {
	s := fakedriver.NewServer(fakedriver.Full())
	p := newLimitedPool(newHost(), s.Connector(), false, Limits{MaxIdleConns: 4})
	defer p.Close()
	p.inner.connector.Config.IsLeft = func(string) bool { return true }
	d, err := p.Connect(t.Context())
	must(t, err)
	sc := d.Conn
	sc.rest.timer = time.NewTimer(time.Hour) // so that nobody gives it up
	for range 5 {
		l := &leftover{sc: sc, may: make(chan struct{})}
		sc.Rest(l, "u", func() {})
		sc.TryWake()
		p.inner.shelf.round.Add(1) // so that it may not stay on the shelf
		d.GiveBack()
		again, err := p.ConnectFor(t.Context(), "u")
		close(l.may)
		if must(t, err); again.Conn != sc {
			t.Fatal("another connection was drawn")
		}
		if d = again; sc.TakeLeft() == nil {
			t.Error("the lock is gone")
		}
		l.check(t, "in the sql.DB", 0, 0)
	}
	if n := s.Open(); n != 1 {
		t.Errorf("%d connections are open, want 1", n)
	}
	d.GiveBack()
}
