package locks

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

var errOver = errors.New("over")

// A recorder is the host of a section, and the client connections in it. It notes what is asked of it, in order,
// and of the end of the section whether it has its lock still.
type recorder struct {
	t      *testing.T
	table  *Table
	events []string
}

func (r *recorder) note(event string) {
	if r.table.TryAcquire(rwlock.Exclusive, &Hold{User: "1"}) {
		r.t.Errorf("when it notes %q the section has no lock", event)
	}
	r.events = append(r.events, event)
}

func (r *recorder) TakeBesideReaders(_ Identity, _ []string, err error, _ func() error) error {
	return err
}
func (r *recorder) Contain(f func()) { f() }
func (r *recorder) Leaving()         { r.note("leaving") }
func (r *recorder) Gone()            { r.events = append(r.events, "gone") }
func (r *recorder) Sweep()           { r.note("sweep") }

func newRecorder(t *testing.T) *recorder { return &recorder{t: t, table: NewTable()} }

// begin begins a section of user 1.
func (r *recorder) begin(ctx context.Context, mode rwlock.Mode, outer *Section) (*Section, error) {
	s := new(Section)
	return s, s.Begin(ctx, r.table, Request{Outer: outer, Identity: Identity{User: "1"}, Mode: mode, Host: r})
}

func (r *recorder) mustBegin(mode rwlock.Mode, outer *Section) *Section {
	r.t.Helper()
	s, err := r.begin(r.t.Context(), mode, outer)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

func (r *recorder) expect(want ...string) {
	r.t.Helper()
	if !slices.Equal(r.events, want) {
		r.t.Errorf("it has come to %q, want %q", r.events, want)
	}
}

// TestLastMemberGivesUpTheSection: from its end on nobody enters, what is open is swept before the context
// is done, and the locks are kept until the last member has left.
func TestLastMemberGivesUpTheSection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(t)
		s := r.mustBegin(rwlock.Exclusive, nil)
		var first, second, late Member
		for _, m := range []*Member{&first, &second} {
			if err := s.Enter(m, &Resident{Conn: r}); err != nil {
				t.Fatal(err)
			}
		}
		s.AfterFunc(func() { r.note("context") })
		s.End(errOver)
		s.End(errors.New("again"))
		if err := s.Enter(&late, nil); err != errOver || !late.IsFree() {
			t.Errorf("who enters after the end gets %v", err)
		}
		if <-s.Done(); s.Err() != errOver {
			t.Errorf("the context says %v", s.Err())
		}
		r.expect("sweep", "sweep", "context")
		first.Leave()
		first.Leave()
		r.expect("sweep", "sweep", "context")
		second.Leave()
		r.expect("sweep", "sweep", "context", "leaving", "gone")
		if n := len(r.table.Snapshot()); n != 0 {
			t.Errorf("%d have locks when all have left", n)
		}
	})
}

// TestSectionEndsWithItsContexts: with the one that it was made from, and with the section that it is inside.
func TestSectionEndsWithItsContexts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(t)
		ctx, cancel := context.WithCancel(t.Context())
		outer, err := r.begin(ctx, rwlock.Exclusive, nil)
		if err != nil {
			t.Fatal(err)
		}
		inner := r.mustBegin(rwlock.Shared, outer)
		cancel()
		synctest.Wait()
		if outer.Reason() != context.Canceled || inner.Reason() != context.Canceled {
			t.Errorf("the outer section has ended by %v, the inner one by %v", outer.Reason(), inner.Reason())
		}
		r.expect("leaving", "leaving", "gone", "gone") // the inner one is a member of the outer one until it has given up what it has
	})
}

// TestSectionInASection takes no second lock, and cannot get more than the outer one has.
func TestSectionInASection(t *testing.T) {
	r := newRecorder(t)
	outer := r.mustBegin(rwlock.Shared, nil)
	inner := r.mustBegin(rwlock.Shared, outer)
	if n := len(r.table.Snapshot()); n != 1 {
		t.Errorf("%d locks are held, want the outer section's", n)
	}
	var up *UpgradeError
	if _, err := r.begin(t.Context(), rwlock.Exclusive, outer); !errors.As(err, &up) || up.User != "1" {
		t.Errorf("an exclusive section inside a shared one: %v", err)
	}
	inner.End(errOver)
	if n := len(r.table.Snapshot()); n != 1 {
		t.Errorf("%d locks are held when the inner one has ended, want the outer section's", n)
	}
	outer.End(errOver)
	if n := len(r.table.Snapshot()); n != 0 {
		t.Errorf("%d locks are held when both have ended", n)
	}
}

// TestBarrierKeepsTheSectionBack until it is lowered, from what would have to wait for the one who raised it.
func TestBarrierKeepsTheSectionBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(t)
		s := r.mustBegin(rwlock.Exclusive, nil)
		defer s.End(errOver)
		h := Hold{User: "1"}
		if err := h.Enter(s, nil); err != nil {
			t.Fatal(err)
		}
		defer h.Release()
		var b Barrier
		b.Raise(r.table, &h)
		found := s.Barriers(r.table, "1")
		if !b.IsRaised() || len(found) != 1 {
			t.Fatalf("%d barriers are in the way", len(found))
		}
		time.AfterFunc(time.Second, b.Lower)
		start := time.Now()
		if err := found[0].Await(t.Context(), rwlock.Shared, new(rwlock.Hold), rwlock.Wait{Timeout: time.Minute}); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(start); waited != time.Second || len(s.Barriers(r.table, "1")) != 0 {
			t.Errorf("it waited %v, want 1s; then %d barriers are left", waited, len(s.Barriers(r.table, "1")))
		}
	})
}

// TestBarrierIsForExclusiveSections: in a shared one the others need not wait, nor outside of any.
func TestBarrierIsForExclusiveSections(t *testing.T) {
	r := newRecorder(t)
	s := r.mustBegin(rwlock.Shared, nil)
	defer s.End(errOver)
	inside, outside := Hold{User: "1"}, Hold{User: "1"}
	if err := inside.Enter(s, nil); err != nil {
		t.Fatal(err)
	}
	defer inside.Release()
	for name, h := range map[string]*Hold{"in a shared section": &inside, "outside": &outside} {
		var b Barrier
		b.Raise(r.table, h)
		if b.Lower(); b.IsRaised() {
			t.Errorf("a barrier is raised %s", name)
		}
	}
}
