package combine

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
)

// A stand is a gate, the users' locks, and one who has the gate and leads.
type stand struct {
	t      *testing.T
	g      *gate.Gate
	env    *Env
	leader gate.Place
	user   rwlock.Hold // of the leader: idle
	batch  rwlock.Batch
}

func newStand(t *testing.T) *stand {
	s := &stand{t: t, g: gate.New("file", nil), env: &Env{Users: locks.NewTable()}}
	s.g.SetJournal("wal")
	s.enter(&s.leader)
	s.env.Open(&s.leader)
	s.batch.Begin(&s.leader.Hold, &s.user)
	return s
}

var patient = rwlock.Wait{Timeout: time.Minute}

// enter waits until p has the gate for itself.
func (s *stand) enter(p *gate.Place) {
	passage := gate.Passage{Gate: s.g, Mode: rwlock.Exclusive}
	p.Come(s.g)
	passage.Await()
	err := passage.Acquire(context.Background(), p, patient)
	passage.End(p, err == nil)
	if err != nil {
		s.t.Error(err)
	}
}

// board puts a ride of the user on the list.
func (s *stand) board(user string) *Ride {
	s.t.Helper()
	r := s.tryBoard(user)
	if r == nil {
		s.t.Fatal("the list is not open")
	}
	return r
}

func (s *stand) tryBoard(user string) *Ride {
	r := &Ride{env: s.env}
	r.Hold.User = user
	r.Hold.Gate.Come(s.g)
	gate.Passage{Gate: s.g, Mode: rwlock.Exclusive}.Await()
	if !s.env.Board(r) {
		return nil
	}
	return r
}

func (s *stand) take() *Ride {
	return s.env.list.take(&s.batch, s.env.Users, func(*Ride) bool { return true }, time.Now())
}

func (s *stand) end() { s.env.list.end(&s.batch, &s.leader, s.env.Users) }

// wantTold checks what the ride has been told.
func (s *stand) wantTold(r *Ride, want Outcome) {
	s.t.Helper()
	select {
	case got := <-r.told:
		if got != want {
			s.t.Errorf("told %d, want %d", got, want)
		}
	default:
		s.t.Error("told nothing")
	}
}

func TestListPassesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		before := s.board("a")
		var queued gate.Place
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.enter(&queued)
			queued.Leave()
		}()
		synctest.Wait()
		after := s.board("b")
		if got := s.take(); got != before {
			t.Errorf("took %v first, want the one that came first", got)
		}
		if got := s.take(); got != nil {
			t.Error("took one that came after another who waits at the gate")
		}
		s.end()
		if out := after.Wait(t.Context(), nil); out != Back {
			t.Errorf("outcome %d of one behind another who has the gate and does not lead", out)
		}
		if s.tryBoard("c") != nil {
			t.Error("the list is open, with nobody who leads")
		}
		s.batch.End()
		s.leader.Leave()
		<-done
	})
}

func TestListTakesFreeLocksOnly(t *testing.T) {
	s := newStand(t)
	var other locks.Hold
	other.User = "a"
	if !s.env.Users.TryAcquire(rwlock.Shared, &other) {
		t.Fatal("the lock is not free")
	}
	locked, first, second := s.board("a"), s.board("b"), s.board("b")
	if got := s.take(); got != first {
		t.Errorf("took %v, want the first whose user's lock is free", got)
	}
	s.wantTold(locked, Back)
	if got := s.take(); got != second {
		t.Errorf("took %v, want the next of the same user", got)
	}
	if s.env.Users.TryAcquire(rwlock.Shared, &locks.Hold{User: "b"}) {
		t.Error("another got the lock of a user whose statements are in the batch")
	}
	s.batch.End()
	if !s.env.Users.TryAcquire(rwlock.Shared, &locks.Hold{User: "b"}) {
		t.Error("the batch has kept a lock")
	}
}

func TestListHandsTheGateOver(t *testing.T) {
	s := newStand(t)
	var other locks.Hold
	other.User = "a"
	s.env.Users.TryAcquire(rwlock.Exclusive, &other)
	locked, next, later := s.board("a"), s.board("b"), s.board("c")
	s.end()
	s.wantTold(locked, Back)
	s.wantTold(next, Leads)
	if !next.Hold.Gate.IsAlone() || !next.Hold.Lock.Held() || s.leader.IsAlone() {
		t.Error("the next leader has not got the gate and its user's lock from the one before")
	}
	s.leader.Leave()
	if !next.Hold.Gate.Hold.Held() {
		t.Error("the next leader has lost the gate with the one before")
	}
	last := s.board("d") // the list has gone with the gate
	next.Hold.Gate.Leave()
	s.wantTold(later, Back)
	s.wantTold(last, Back)
	if s.tryBoard("e") != nil {
		t.Error("the list is open, and nobody has the gate")
	}
}

// Whoever has the gate need not lead: the list is shut with the place there, wherever that has gone meanwhile.
func TestListIsShutWithThePlace(t *testing.T) {
	s := newStand(t)
	r := s.board("a")
	var moved gate.Place
	s.leader.Move(&moved)
	s.leader.Leave()
	if s.tryBoard("b") == nil {
		t.Error("the list was shut by a place that has moved")
	}
	moved.Leave()
	s.wantTold(r, Back)
	if s.tryBoard("c") != nil {
		t.Error("the list is open, and nobody has the gate")
	}
}

func TestListIsLeft(t *testing.T) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	s := newStand(t)
	r := s.board("a")
	if out := r.Wait(ended, nil); out != Back {
		t.Errorf("outcome %d of a context that has ended", out)
	}
	closed := make(chan struct{})
	close(closed)
	r = s.board("a")
	if out := r.Wait(context.Background(), closed); out != Back {
		t.Errorf("outcome %d of a handle that was closed", out)
	}
	if got := s.take(); got != nil {
		t.Error("took one that has left")
	}
	r = s.board("a")
	if s.take() != r {
		t.Fatal("not taken")
	}
	if out := r.Wait(ended, nil); out != Rode {
		t.Errorf("outcome %d of a context that has ended while the ride runs", out)
	}
}

// Who was told to lead has the gate, whatever becomes of its context meanwhile.
func TestListLosesNoGate(t *testing.T) {
	for range 2000 {
		s := newStand(t)
		ctx, cancel := context.WithCancel(context.Background())
		r := s.board("a")
		var wg sync.WaitGroup
		wg.Go(cancel)
		wg.Go(func() {
			s.end()
			s.leader.Leave()
		})
		if r.Wait(ctx, nil) == Leads {
			r.Hold.Release()
		}
		wg.Wait()
		var next gate.Place
		s.enter(&next)
		if t.Failed() {
			return
		}
	}
}

func TestWatchdogClosesTheList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		began := time.Now()
		if out := s.board("a").Wait(t.Context(), nil); out != Back {
			t.Errorf("outcome %d", out)
		}
		if waited := time.Since(began); waited > 2*watchdog {
			t.Errorf("waited %v for a leader that is silent", waited)
		}
		if s.tryBoard("b") != nil {
			t.Error("the list is open after its leader was silent")
		}
	})
}
