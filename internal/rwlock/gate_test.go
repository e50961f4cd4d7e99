package rwlock_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// gateScene is a scene at one gate, which many users must pass.
type gateScene struct {
	scene
	users *rwlock.Table
	gate  *rwlock.Lock
}

// atGate runs a test in a bubble, and checks that it leaves nothing.
func atGate(t *testing.T, test func(s *gateScene)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &gateScene{scene{t: t}, rwlock.NewTable(), rwlock.NewGate("gate")}
		test(s)
		expectIdle(t, s.users)
		expectIdle(t, s.gate)
	})
}

// write is what a statement that writes asks for, read what one asks for that reads
// where readers and writers exclude each other at the gate.
func (s *gateScene) write(name, user string) *group { return s.gated(nil, name, user, exclusive) }
func (s *gateScene) read(name, user string) *group  { return s.gated(nil, name, user, shared) }

func (s *gateScene) gated(owner *rwlock.Owner, name, user string, mode rwlock.Mode) *group {
	u, g := &rwlock.Hold{Label: rwlock.Tagged(name), Owner: owner}, &rwlock.Hold{Label: rwlock.Tagged(name), Owner: owner}
	return &group{
		holds: []*rwlock.Hold{u, g},
		request: s.start(name, func(ctx context.Context, _ *rwlock.Hold) error {
			return rwlock.AcquireGated(ctx, withSelf,
				rwlock.Request{Lock: s.gate, Mode: mode, Hold: g},
				rwlock.Request{Table: s.users, Key: user, Mode: mode, Hold: u})
		}),
	}
}

// direct asks for the gate alone, as what has no user does, or has its lock already.
func (s *gateScene) direct(name string) *request {
	return s.ask(name, exclusive, s.gate.Acquire)
}

func (s *gateScene) reader(name, user string) *request {
	return s.ask(name, shared, keyOf(s.users, user))
}

func TestGateIsStrictWithOwners(t *testing.T) {
	kinds := []rwlock.Kind{rwlock.Leaf, rwlock.Rows, rwlock.Tx, rwlock.Session, rwlock.Section}
	for _, kind := range kinds {
		for _, beside := range kinds {
			for _, mode := range []rwlock.Mode{shared, exclusive} {
				gate, owner := rwlock.NewGate("gate"), new(rwlock.Owner)
				held := rwlock.Hold{Owner: owner, Kind: beside}
				if err := try(gate.Acquire, mode, &held); err != nil {
					t.Fatal(err)
				}
				var werr *rwlock.WaitError
				err := try(as(owner, kind, gate.Acquire), exclusive, new(rwlock.Hold))
				if !errors.As(err, &werr) || werr.Held {
					t.Errorf("%v beside an own %v: %v, want a refusal that is not about an upgrade", kind, beside, err)
				}
				if err := try(as(owner, kind, gate.Acquire), shared, new(rwlock.Hold)); (err == nil) != (mode == shared) {
					t.Errorf("shared %v beside an own %v %v: %v", kind, mode, beside, err)
				}
			}
		}
	}
}

func TestOwnerWaitsForItselfAtAGate(t *testing.T) {
	atGate(t, func(s *gateScene) {
		owner := new(rwlock.Owner)
		tx := s.ask("tx", exclusive, as(owner, rwlock.Tx, s.gate.Acquire))
		plain := s.askWithin(withSelf, "plain", exclusive, as(owner, rwlock.Leaf, s.gate.Acquire))
		gated := s.gated(owner, "gated", "1", exclusive)
		time.Sleep(selfWait - 1)
		s.expectGranted("tx")
		if plain.settled.Load() || gated.settled.Load() {
			t.Fatalf("too early: %v, %v", plain.err, gated.err)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		for _, r := range []*request{plain, gated.request} {
			var werr *rwlock.WaitError
			if !errors.As(r.err, &werr) || werr.Err != rwlock.ErrDeadlock || werr.Blocker.Tag != "tx" || werr.Blocker.Owner != owner || werr.Key != "gate" {
				t.Errorf("%v, want a deadlock that names the own hold of the gate", r.err)
			}
		}
		tx.release()
	})
}

func TestNobodyPassesTheQueueOfAGateForItsOwnHolds(t *testing.T) {
	atGate(t, func(s *gateScene) {
		owner := new(rwlock.Owner)
		rows := s.ask("rows", shared, as(owner, rwlock.Rows, s.gate.Acquire))
		writer := s.direct("writer")
		again := s.askWithin(rwlock.Wait{}, "again", shared, as(owner, rwlock.Leaf, s.gate.Acquire))
		again.expectErr(rwlock.ErrTimeout)
		rows.release()
		s.expectGranted("rows", "writer")
		writer.release()
	})
}

func TestReadersPassAWriterThatIsNotAtTheHeadOfTheGate(t *testing.T) {
	atGate(t, func(s *gateScene) {
		other := s.write("other", "2")
		writer := s.write("writer", "1")
		r1 := s.reader("r1", "1")
		s.expectGranted("other", "r1")
		r1.release()
		r2 := s.reader("r2", "1")
		s.expectGranted("r2")
		r2.release()
		other.release()
		s.expectGranted("writer")
		late := s.reader("late", "1")
		s.expectGranted()
		writer.release()
		s.expectGranted("late")
		late.release()
	})
}

// Who wants the user's lock alone has its turn after the writer that came earlier.
func TestExclusiveRequestsOfTheUserDoNotPassAWriter(t *testing.T) {
	atGate(t, func(s *gateScene) {
		other := s.write("other", "2")
		writer := s.write("writer", "1")
		section := s.ask("section", exclusive, keyOf(s.users, "1"))
		reader := s.reader("reader", "1") // comes after the section, too
		s.expectGranted("other")
		other.release()
		s.expectGranted("writer")
		writer.release()
		s.expectGranted("section")
		section.release()
		s.expectGranted("reader")
		reader.release()
	})
}

func TestReadersThatWaitForASectionPassTheWriterToo(t *testing.T) {
	atGate(t, func(s *gateScene) {
		section := s.ask("section", exclusive, keyOf(s.users, "1"))
		other := s.write("other", "2")
		writer := s.write("writer", "1")
		r1, r2 := s.reader("r1", "1"), s.reader("r2", "1")
		s.expectGranted("section", "other")
		section.release()
		s.expectGranted("r1", "r2")
		other.release()
		s.releaseAll(r1, r2)
		s.expectGranted("writer")
		writer.release()
	})
}

func TestWriterAtTheHeadOfTheGateClosesItsUsersLock(t *testing.T) {
	atGate(t, func(s *gateScene) {
		older := s.reader("older", "1")
		other := s.write("other", "2")
		writer := s.write("writer", "1")
		before := s.reader("before", "1")
		s.expectGranted("older", "other", "before")
		other.release()
		newcomer := s.reader("newcomer", "1")
		before.release()
		s.expectGranted()
		older.release()
		s.expectGranted("writer")
		writer.release()
		s.expectGranted("newcomer")
		newcomer.release()
	})
}

func TestWriterThatFindsTheGateFreeClosesItsUsersLockAtOnce(t *testing.T) {
	atGate(t, func(s *gateScene) {
		older := s.reader("older", "1")
		writer := s.write("writer", "1")
		newcomer := s.reader("newcomer", "1")
		s.expectGranted("older")
		older.release()
		s.expectGranted("writer")
		writer.release()
		s.expectGranted("newcomer")
		newcomer.release()
	})
}

// Others pass, whatever they are, but only while older readers remain.
func TestOthersPassAWriterThatWaitsForOlderReaders(t *testing.T) {
	atGate(t, func(s *gateScene) {
		rows := s.reader("rows", "1")
		writer := s.write("writer", "1")
		p1 := s.write("p1", "2")
		p2 := s.direct("p2")
		p3 := s.write("p3", "3")
		s.expectGranted("rows", "p1")
		p1.release()
		s.expectGranted("p2")
		rows.release() // p2 has the gate, and is the last
		s.expectGranted()
		p4 := s.write("p4", "4")
		p2.release()
		s.expectGranted("writer")
		writer.release()
		s.expectGranted("p3")
		p3.release()
		s.expectGranted("p4")
		p4.release()
	})
}

// Those who wait for their users keep the order among them.
func TestFirstPlaceIsKept(t *testing.T) {
	atGate(t, func(s *gateScene) {
		rows1, rows2 := s.reader("rows1", "1"), s.reader("rows2", "2")
		w1, w2 := s.write("w1", "1"), s.write("w2", "2")
		other := s.direct("other")
		last := s.direct("last")
		s.expectGranted("rows1", "rows2", "other")
		rows2.release() // now w2 is ready, and still behind w1
		rows1.release()
		other.release()
		s.expectGranted("w1")
		w1.release()
		s.expectGranted("w2")
		w2.release()
		s.expectGranted("last")
		last.release()
	})
}

func TestGatedHoldsNothingWhileItWaits(t *testing.T) {
	atGate(t, func(s *gateScene) {
		expectNothing := func(g *group) {
			t.Helper()
			if g.holds[0].Held() || g.holds[1].Held() {
				t.Error("one of the locks is held while the other is waited for")
			}
		}
		older, other := s.reader("older", "1"), s.direct("other")
		writer := s.write("writer", "1")
		expectNothing(writer)
		other.release()
		expectNothing(writer)
		other = s.direct("other")
		older.release()
		expectNothing(writer)
		other.release()
		if !writer.holds[0].Held() || !writer.holds[1].Held() {
			t.Error("the locks are free, and one is not held")
		}
		writer.release()
	})
}

// Of several holds of a user's lock only the last makes way.
func TestWriterWaitsForItsUsersSection(t *testing.T) {
	atGate(t, func(s *gateScene) {
		owner := new(rwlock.Owner)
		section := s.section(owner, "section", exclusive, keyOf(s.users, "1"))
		writer := s.write("writer", "1")
		inside := s.ask("inside", exclusive, as(owner, rwlock.Leaf, s.gate.Acquire)) // passes the writer
		s.expectGranted("section", "inside")
		section.release()
		s.expectGranted()
		inside.release()
		s.expectGranted("writer")
		writer.release()
	})
}

// What a section writes is not put before others because a writer waits for the section:
// that one will let it pass in its turn.
func TestSectionHasItsTurnAtTheGate(t *testing.T) {
	atGate(t, func(s *gateScene) {
		owner := new(rwlock.Owner)
		section := s.section(owner, "section", exclusive, keyOf(s.users, "1"))
		x := s.ask("x", exclusive, as(new(rwlock.Owner), rwlock.Tx, s.gate.Acquire))
		writer := s.write("writer", "1")
		p := s.write("p", "2")
		inside := s.askWithin(withSelf, "inside", exclusive, as(owner, rwlock.Leaf, s.gate.Acquire))
		s.expectGranted("section", "x")
		x.release()
		s.expectGranted("p")
		p.release()
		s.expectGranted("inside")
		s.releaseAll(inside, section)
		s.expectGranted("writer")
		writer.release()
	})
}

// In rollback-journal mode readers pass the gate, and exclude its writers.
func TestReadersAtTheGate(t *testing.T) {
	atGate(t, func(s *gateScene) {
		r1, r2 := s.read("r1", "1"), s.read("r2", "2")
		w1 := s.write("w1", "1")
		late := s.read("late", "3") // behind the writer, at the gate
		s.expectGranted("r1", "r2")
		r2.release()
		r1.release()
		s.expectGranted("w1")
		w1.release()
		s.expectGranted("late")
		late.release()
	})
}

// A reader at the head of the gate, whose user's lock is taken, lets writers pass.
func TestReaderOfATakenUserLetsOthersPass(t *testing.T) {
	atGate(t, func(s *gateScene) {
		section := s.ask("section", exclusive, keyOf(s.users, "1"))
		r1 := s.read("r1", "1")
		w2 := s.write("w2", "2")
		s.expectGranted("section", "w2")
		section.release()
		w2.release()
		s.expectGranted("r1")
		r1.release()
	})
}

func TestGatedThatGivesUpMakesWay(t *testing.T) {
	atGate(t, func(s *gateScene) { // in its user's lock, which it has closed
		older := s.reader("older", "1")
		writer := s.write("writer", "1")
		newcomer := s.reader("newcomer", "1")
		s.expectGranted("older")
		writer.giveUp()
		writer.expectErr(context.Canceled)
		s.expectGranted("newcomer")
		s.releaseAll(older, newcomer)
	})
	atGate(t, func(s *gateScene) { // before its turn
		other := s.direct("other")
		writer := s.write("writer", "1")
		section := s.ask("section", exclusive, keyOf(s.users, "1"))
		s.expectGranted("other")
		writer.giveUp()
		s.expectGranted("section")
		s.releaseAll(section, other)
	})
	atGate(t, func(s *gateScene) { // when it would be next
		rows, writer, other := s.reader("rows", "1"), s.write("writer", "1"), s.read("other", "2")
		rows.release()
		next := s.read("next", "3")
		s.expectGranted("rows", "other")
		writer.giveUp()
		s.expectGranted("next")
		other.release()
		next.release()
	})
}

// Whoever may pass a waiter is also woken behind it.
func TestThoseWhoMayPassAreWoken(t *testing.T) {
	atGate(t, func(s *gateScene) { // at the user's lock, behind a writer whose turn is not yet
		rows, other := s.reader("rows", "1"), s.direct("other")
		section := s.ask("section", exclusive, keyOf(s.users, "1"))
		writer := s.write("writer", "1")
		reader := s.reader("reader", "1")
		s.expectGranted("rows", "other")
		section.giveUp()
		s.expectGranted("reader")
		s.releaseAll(reader, rows, other)
		s.expectGranted("writer")
		writer.release()
	})
	atGate(t, func(s *gateScene) { // at the gate, behind a writer whose user is read
		section, rows := s.ask("section", exclusive, keyOf(s.users, "1")), s.reader("rows", "2")
		r1, w2 := s.read("r1", "1"), s.write("w2", "2")
		other := s.direct("other")
		r3 := s.read("r3", "3")
		s.expectGranted("section", "rows", "other")
		section.release()
		other.release()
		s.expectGranted("r1", "r3")
		rows.release()
		r1.release()
		r3.release()
		s.expectGranted("w2")
		w2.release()
	})
}

func TestGatedTimesOutAndNamesWhoIsInTheWay(t *testing.T) {
	atGate(t, func(s *gateScene) {
		rows := s.reader("rows", "1")
		err := rwlock.AcquireGated(s.t.Context(), rwlock.Wait{Timeout: time.Second},
			rwlock.Request{Lock: s.gate, Mode: exclusive, Hold: new(rwlock.Hold)},
			rwlock.Request{Table: s.users, Key: "1", Mode: exclusive, Hold: new(rwlock.Hold)})
		var werr *rwlock.WaitError
		if !errors.As(err, &werr) || werr.Err != rwlock.ErrTimeout || werr.Key != "1" || werr.Blocker.Tag != "rows" || werr.Waited != time.Second {
			t.Errorf("%v, want a timeout at the user's lock", err)
		}
		s.expectGranted("rows")
		rows.release()
	})
}

// use acquires the gate and the user's lock for a while, and returns how long that took.
func (s *gateScene) use(user string, lasts time.Duration) (waited time.Duration) {
	var g, u rwlock.Hold
	start := time.Now()
	err := rwlock.AcquireGated(s.t.Context(), withSelf,
		rwlock.Request{Lock: s.gate, Mode: exclusive, Hold: &g},
		rwlock.Request{Table: s.users, Key: user, Mode: exclusive, Hold: &u})
	if err != nil {
		s.t.Error(err)
	}
	waited = time.Since(start)
	time.Sleep(lasts)
	u.Release()
	g.Release()
	return waited
}

// useShared does the same with the user's lock, shared.
func (s *gateScene) useShared(user string, lasts time.Duration) (waited time.Duration) {
	var h rwlock.Hold
	start := time.Now()
	if err := s.users.Acquire(s.t.Context(), user, shared, &h, withSelf); err != nil {
		s.t.Error(err)
	}
	waited = time.Since(start)
	time.Sleep(lasts)
	h.Release()
	return waited
}

// waits are how long several goroutines have waited.
type waits struct {
	mu  sync.Mutex
	all []time.Duration
}

func (w *waits) add(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, d)
}

func (w *waits) medianAndMax() (median, longest time.Duration) {
	slices.Sort(w.all)
	return w.all[len(w.all)/2], w.all[len(w.all)-1]
}

// A reader waits for older readers, one hold of the gate, and its user's writer, however
// many wait at the gate.
func TestReaderWaitsForOneHoldOfTheGateAtMost(t *testing.T) {
	const hold, read = 10 * time.Millisecond, 25 * time.Millisecond
	atGate(t, func(s *gateScene) {
		var working sync.WaitGroup
		var waits waits
		for i := range 50 {
			user := fmt.Sprint("other ", i)
			if i == 25 {
				user = "1"
			}
			working.Go(func() { s.use(user, hold) })
		}
		for range 200 { // there is always one
			working.Go(func() { waits.add(s.useShared("1", read)) })
			time.Sleep(5 * time.Millisecond)
		}
		working.Wait()
		if _, longest := waits.medianAndMax(); longest < hold || longest > read+2*hold {
			t.Errorf("a reader waited %v, want at most %v for older readers, %v for the gate, and %v for the writer", longest, read, hold, hold)
		}
	})
}

// Equal writers wait equally long, also those whose users are read all the time.
func TestWritersAtTheGateAreEqual(t *testing.T) {
	const writers, rounds, hold, read = 200, 6, time.Millisecond, 3 * time.Millisecond
	atGate(t, func(s *gateScene) {
		var writing, reading sync.WaitGroup
		var waits waits
		done := make(chan struct{})
		readAllTheTime := func(user string) {
			for {
				select {
				case <-done:
					return
				default:
					s.useShared(user, read)
				}
			}
		}
		for i := range writers {
			user := fmt.Sprint(i)
			if i%2 == 0 {
				reading.Go(func() { readAllTheTime(user) })
				time.Sleep(read / 2)
				reading.Go(func() { readAllTheTime(user) })
			}
			writing.Go(func() {
				s.use(user, hold) // the first round is short for those who come early
				for range rounds {
					waits.add(s.use(user, hold))
				}
			})
		}
		writing.Wait()
		close(done)
		reading.Wait()
		// The last to finish have no competition: only the longest waits tell of starving.
		median, longest := waits.medianAndMax()
		if float64(longest) > 1.1*float64(median) {
			t.Errorf("the longest wait is %v, the median %v", longest, median)
		}
	})
}

// A request for several locks besides the gate lets others pass there as long as any of
// them is held, is in the way of nobody who reads while it is not its turn, and gets all
// in one step.
func TestGatedRequestForSeveralLocks(t *testing.T) {
	atGate(t, func(s *gateScene) {
		all := rwlock.NewLock("all", 0)
		everybody := s.ask("everybody", exclusive, all.Acquire)
		other := s.direct("other")
		var gate, user, share rwlock.Hold
		writer := s.start("writer", func(ctx context.Context, _ *rwlock.Hold) error {
			return rwlock.AcquireGated(ctx, withSelf, rwlock.Request{Lock: s.gate, Mode: exclusive, Hold: &gate},
				rwlock.Request{Table: s.users, Key: "1", Mode: exclusive, Hold: &user}, rwlock.Request{Lock: all, Mode: shared, Hold: &share})
		})
		reader := s.reader("reader", "1")
		s.expectGranted("everybody", "other", "reader")
		next := s.direct("next") // waits at the gate behind the writer
		other.release()
		s.expectGranted("next")
		next.release()
		reader.release()
		later := s.ask("later", exclusive, all.Acquire)
		s.expectGranted()
		everybody.release()
		s.expectGranted("writer")
		writer.expectErr(nil)
		for _, h := range []*rwlock.Hold{&gate, &user, &share} {
			h.Release()
		}
		synctest.Wait()
		s.expectGranted("later")
		later.release()
		expectIdle(t, all)
	})
}

func TestGatedRefusesWhatCannotBeMeant(t *testing.T) {
	users, lock, gate := rwlock.NewTable(), rwlock.NewLock("lock", 0), rwlock.NewGate("gate")
	var h1, h2 rwlock.Hold
	ask := func(gate, user rwlock.Request) error {
		return rwlock.AcquireGated(t.Context(), rwlock.Wait{}, gate, user)
	}
	const order = "rwlock: a gated request must name a gate first, then other locks"
	user := rwlock.Request{Table: users, Key: "1", Hold: &h2}
	for want, reqs := range map[string][][2]rwlock.Request{
		order: {
			{{Lock: lock, Hold: &h1}, user}, {user, user}, {user, {Lock: gate, Hold: &h1}},
			{{Lock: gate, Hold: &h1}, {Lock: rwlock.NewGate("other"), Hold: &h2}},
		},
		"rwlock: request 1 must name a table or a lock": {{{Lock: gate, Hold: &h1}, {Hold: &h2}}},
		"rwlock: request 0 has no hold":                 {{{Lock: gate}, user}},
		"rwlock: hold is already in use":                {{{Lock: gate, Hold: &h2}, user}},
	} {
		for _, r := range reqs {
			if err := ask(r[0], r[1]); err == nil || err.Error() != want {
				t.Errorf("%v: error %v, want %s", r, err, want)
			}
		}
	}
	if h1.Held() || h2.Held() {
		t.Error("a refused request got something")
	}
	expectIdle(t, users)
	expectIdle(t, gate)
}

func TestCycleThroughAGateIsADeadlock(t *testing.T) {
	atGate(t, func(s *gateScene) {
		a, b := new(rwlock.Owner), new(rwlock.Owner)
		tx := s.ask("tx", exclusive, as(a, rwlock.Tx, s.gate.Acquire))
		section := s.section(b, "section", exclusive, keyOf(s.users, "1"))
		inside := s.askWithin(withSelf, "inside", exclusive, as(b, rwlock.Leaf, s.gate.Acquire))
		joins := s.section(a, "joins", exclusive, keyOf(s.users, "1"))
		joins.expectErr(rwlock.ErrDeadlock)
		s.expectGranted("tx", "section")
		tx.release()
		s.expectGranted("inside")
		s.releaseAll(inside, section)
	})
}

// The same with a request for both, which waits for the gate while its owner has another
// user's lock.
func TestCycleThroughAGatedRequestIsADeadlock(t *testing.T) {
	for _, first := range []string{"gated", "joins"} {
		atGate(t, func(s *gateScene) {
			a, b := new(rwlock.Owner), new(rwlock.Owner)
			tx := s.ask("tx", exclusive, as(a, rwlock.Tx, s.gate.Acquire))
			section := s.section(b, "section", exclusive, keyOf(s.users, "1"))
			var gated *group
			var joins *request
			join := func() { joins = s.section(a, "joins", exclusive, keyOf(s.users, "1")) }
			if first == "joins" {
				join()
			}
			gated = s.gated(b, "gated", "2", exclusive)
			s.expectGranted("tx", "section")
			if first == "gated" {
				join()
				joins.expectErr(rwlock.ErrDeadlock)
				tx.release()
				s.expectGranted("gated")
				gated.release()
				section.release()
				return
			}
			gated.expectErr(rwlock.ErrDeadlock)
			section.release()
			s.expectGranted("joins")
			s.releaseAll(joins, tx)
		})
	}
}
