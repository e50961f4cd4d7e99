package server

import (
	"context"
	"database/sql/driver"
	"testing"

	"github.com/calmdocs/dblocker/internal/fakedriver"
)

// TestPoolReplacesWhatIsNoGood: a connection that has failed, or that its driver no longer takes for good,
// is closed when it goes back; others come again.
func TestPoolReplacesWhatIsNoGood(t *testing.T) {
	for _, isLocal := range []bool{false, true} {
		s := fakedriver.NewServer(fakedriver.Full())
		h := newHost()
		p := newPool(h, s.Connector(), isLocal)
		draw := func() Lease {
			d, err := p.Connect(t.Context())
			must(t, err)
			return d
		}
		first := draw()
		first.GiveBack()
		again := draw()
		if again.Conn != first.Conn || !again.MayBeStale || first.MayBeStale {
			t.Errorf("lone %v: a good connection does not come again as one that may be stale", isLocal)
		}
		again.Conn.Fail()
		again.GiveBack()
		other := draw()
		if other.Conn == first.Conn || other.MayBeStale {
			t.Errorf("lone %v: a connection comes again that has failed", isLocal)
		}
		other.Discard()
		if n := s.Open(); n != 0 {
			t.Errorf("lone %v: %d connections are open after the last was discarded", isLocal, n)
		}
		third := draw()
		if third.Conn == other.Conn {
			t.Errorf("lone %v: a connection comes again that was discarded", isLocal)
		}
		third.GiveBack()
		if drawn, closed := h.drawn.Load(), h.closed.Load(); drawn != 3 || closed != 2 {
			t.Errorf("lone %v: the host was told of %d new connections and of %d that are closed; want 3 and 2", isLocal, drawn, closed)
		}
		must(t, p.Close())
	}
}

// TestLoneConnectionMovesIn: the first connection of a local database is in no sql.DB before another is wanted,
// and in it from then on.
func TestLoneConnectionMovesIn(t *testing.T) {
	s := fakedriver.NewServer(fakedriver.Full())
	p := newPool(newHost(), s.Connector(), true)
	a, err := p.Connect(t.Context())
	must(t, err)
	if p.HasDB() {
		t.Error("there is a sql.DB for one connection")
	}
	b, err := p.Connect(t.Context())
	must(t, err)
	if n := p.DB().Stats().InUse; n != 2 {
		t.Errorf("the sql.DB has %d connections in use, want 2", n)
	}
	a.GiveBack()
	b.GiveBack()
	if left := p.CloseIdle(); left != 0 || s.Open() != 0 {
		t.Errorf("%d connections are left, and %d open, after those were closed that nobody uses", left, s.Open())
	}
	must(t, p.Close())
	if _, err := p.Connect(t.Context()); err == nil {
		t.Error("a closed pool gives a connection")
	}
}

// TestFirstIsClaimedOnce, and not after a connection was drawn.
func TestFirstIsClaimedOnce(t *testing.T) {
	p := newPool(newHost(), fakedriver.NewServer(fakedriver.Full()).Connector(), false)
	defer p.Close()
	if p.IsConnected() || !p.ClaimFirst() || p.ClaimFirst() || !p.IsConnected() {
		t.Error("the opening of the first connection is not the one caller's who claims it")
	}
}

// A slowConnector connects when it is told to, whatever the context says.
type slowConnector struct {
	driver.Connector
	entered, goOn chan struct{}
}

func (c slowConnector) Connect(ctx context.Context) (driver.Conn, error) {
	close(c.entered)
	<-c.goOn
	return c.Connector.Connect(context.WithoutCancel(ctx))
}

// TestDialOutlivesItsCaller: who waits for a connection leaves with his context. What the driver
// comes to open is closed, and the host is told then.
func TestDialOutlivesItsCaller(t *testing.T) {
	s := fakedriver.NewServer(fakedriver.Full())
	slow := slowConnector{s.Connector(), make(chan struct{}), make(chan struct{})}
	h := newHost()
	p := newPool(h, slow, false)
	defer p.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancelled := make(chan error, 1)
	go func() {
		_, err := p.Connect(ctx)
		cancelled <- err
	}()
	<-slow.entered
	cancel()
	if err := <-cancelled; err != context.Canceled {
		t.Errorf("the caller has left with %v", err)
	}
	close(slow.goOn)
	<-h.opened
	if n := s.Open(); n != 0 {
		t.Errorf("%d connections are open that nobody waits for", n)
	}
}

// TestCloseIdleCountsWhatIsBeingOpened: the first connection of a local database too, which is in no sql.DB yet.
func TestCloseIdleCountsWhatIsBeingOpened(t *testing.T) {
	for _, isLocal := range []bool{false, true} {
		s := fakedriver.NewServer(fakedriver.Full())
		opening, goOn := make(chan bool), make(chan bool)
		s.Hook = func(_ int, method string) error {
			if method == "connector.Connect" {
				opening <- true
				<-goOn
			}
			return nil
		}
		p := newPool(newHost(), s.Connector(), isLocal)
		drawn := make(chan Lease)
		go func() {
			d, err := p.Connect(t.Context())
			must(t, err)
			drawn <- d
		}()
		<-opening
		if n := p.CloseIdle(); n != 1 {
			t.Errorf("lone %v: %d are left while one is being opened", isLocal, n)
		}
		close(goOn)
		d := <-drawn
		if n := p.CloseIdle(); n != 1 {
			t.Errorf("lone %v: %d are left while one is in use", isLocal, n)
		}
		d.GiveBack()
		if n := p.CloseIdle(); n != 0 {
			t.Errorf("lone %v: %d are left, and none is in use", isLocal, n)
		}
		must(t, p.Close())
	}
}
