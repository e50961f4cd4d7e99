package rwlock_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// ward stands for what a lock protects, and notices when it does not.
type ward struct {
	key   string
	lock  *rwlock.Lock // nil for a key of the table
	limit int32        // 0 for none

	readers, writers atomic.Int32
	value            int // unsynchronized on purpose: the race detector watches it
}

func (w *ward) use(t *testing.T, mode rwlock.Mode) {
	if mode == exclusive && w.limit == 0 {
		if w.writers.Add(1) != 1 || w.readers.Load() != 0 {
			t.Errorf("%s: a writer is not alone", w.key)
		}
		w.value++
		runtime.Gosched()
		w.writers.Add(-1)
		return
	}
	if n := w.readers.Add(1); w.limit > 0 && n > w.limit {
		t.Errorf("%s: %d readers, at most %d are allowed", w.key, n, w.limit)
	}
	if w.writers.Load() != 0 {
		t.Errorf("%s: a reader beside a writer", w.key)
	}
	_ = w.value
	runtime.Gosched()
	w.readers.Add(-1)
}

// stress is many goroutines at a few locks, with real time and real parallelism. What
// it cannot see, the order among waiters, the schedules see.
type stress struct {
	t     *testing.T
	table *rwlock.Table
	wards []*ward
}

func newStress(t *testing.T) *stress {
	s := &stress{t: t, table: rwlock.NewTable()}
	for i := range 5 {
		s.wards = append(s.wards, &ward{key: fmt.Sprint("user ", i)})
	}
	s.wards = append(s.wards,
		&ward{key: "gate", lock: rwlock.NewGate("gate")},
		&ward{key: "pool", lock: rwlock.NewLock("pool", 3), limit: 3})
	return s
}

func (s *stress) gate() *rwlock.Lock { return s.wards[5].lock }
func (s *stress) pool() *rwlock.Lock { return s.wards[6].lock }

// patience is how long a wait may last before we say that a wake-up was lost.
const patience = time.Minute

func (s *stress) worker(rnd *rand.Rand, rounds int) {
	var holds [7]rwlock.Hold
	for range rounds {
		picked := rnd.Perm(len(s.wards))[:1+rnd.IntN(3)]
		modes := make([]rwlock.Mode, len(picked))
		reqs := make([]rwlock.Request, len(picked))
		for i, n := range picked {
			modes[i] = rwlock.Mode(min(rnd.IntN(3), 1) ^ 1) // two readers for each writer
			reqs[i] = s.requestOf(s.wards[n], modes[i], &holds[n])
			holds[n].Kind = rwlock.Kind(rnd.IntN(5))
			holds[n].Label = rwlock.Tagged(tagOf(picked))
		}
		err := s.acquire(rnd, reqs)
		for i, n := range picked {
			if held := holds[n].Held(); held != (err == nil) {
				s.t.Errorf("%s: held %v, error %v", s.wards[n].key, held, err)
			}
			if err == nil {
				s.wards[n].use(s.t, modes[i])
			}
		}
		s.releaseAll(rnd, &holds, picked)
	}
}

// Tags tell the observer which waiters may have to wait for something else.
const single, several = "single", "several"

func tagOf(picked []int) string {
	if len(picked) == 1 {
		return single
	}
	return several
}

func (s *stress) requestOf(w *ward, mode rwlock.Mode, h *rwlock.Hold) rwlock.Request {
	if w.limit > 0 {
		mode = shared
	}
	if w.lock != nil {
		return rwlock.Request{Lock: w.lock, Mode: mode, Hold: h}
	}
	return rwlock.Request{Table: s.table, Key: w.key, Mode: mode, Hold: h}
}

// acquire asks with patience, without any, or until a moment that is soon.
func (s *stress) acquire(rnd *rand.Rand, reqs []rwlock.Request) error {
	ctx, wait := context.Background(), rwlock.Wait{Timeout: patience}
	patient := false
	switch rnd.IntN(6) {
	case 0:
		wait.Timeout = 0
	case 1:
		wait.Timeout = time.Duration(rnd.IntN(100)) * time.Microsecond
	case 2:
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(rnd.IntN(100))*time.Microsecond)
		defer cancel()
	case 3:
		closed := make(chan struct{})
		wait.Closed = closed
		time.AfterFunc(time.Duration(rnd.IntN(100))*time.Microsecond, func() { close(closed) })
	default:
		patient = true
	}
	err := s.ask(ctx, wait, reqs)
	if err != nil && patient {
		s.t.Errorf("lost wake-up: %v", err)
	}
	return err
}

// ask asks for all, the pool last.
func (s *stress) ask(ctx context.Context, wait rwlock.Wait, reqs []rwlock.Request) error {
	pool := slices.IndexFunc(reqs, func(r rwlock.Request) bool { return r.Lock == s.pool() })
	if pool < 0 {
		return s.askWithoutPool(ctx, wait, reqs)
	}
	slot := reqs[pool]
	reqs = slices.Delete(slices.Clone(reqs), pool, pool+1)
	if len(reqs) > 0 {
		if err := s.askWithoutPool(ctx, wait, reqs); err != nil {
			return err
		}
	}
	wait.Turn = slot.Hold.Tag()
	err := slot.Lock.Acquire(ctx, shared, slot.Hold, wait)
	for _, r := range reqs {
		if err != nil {
			r.Hold.Release()
		}
	}
	return err
}

func (s *stress) askWithoutPool(ctx context.Context, wait rwlock.Wait, reqs []rwlock.Request) error {
	gate := slices.IndexFunc(reqs, func(r rwlock.Request) bool { return r.Lock == s.gate() })
	switch {
	case len(reqs) == 2 && gate >= 0:
		return rwlock.AcquireGated(ctx, wait, reqs[gate], reqs[1-gate])
	case len(reqs) > 1:
		return rwlock.AcquireAll(ctx, wait, reqs...)
	}
	r := reqs[0]
	if r.Lock != nil {
		return r.Lock.Acquire(ctx, r.Mode, r.Hold, wait)
	}
	return r.Table.Acquire(ctx, r.Key, r.Mode, r.Hold, wait)
}

// releaseAll releases the picked holds, in part from another goroutine too.
func (s *stress) releaseAll(rnd *rand.Rand, holds *[7]rwlock.Hold, picked []int) {
	var wg sync.WaitGroup
	for _, n := range picked {
		if rnd.IntN(4) == 0 {
			wg.Go(holds[n].Release)
		}
		holds[n].Release()
	}
	wg.Wait()
}

// observe checks what can be said of a lock at any moment: who has it may have it, and
// nobody waits for nothing.
func (s *stress) observe() {
	perKey := map[string][]rwlock.Info{}
	for _, i := range s.table.Snapshot() {
		perKey[i.Key] = append(perKey[i.Key], i)
	}
	for _, w := range s.wards {
		infos := perKey[w.key]
		if w.lock != nil {
			infos = w.lock.Snapshot()
		}
		s.checkLock(w, infos)
	}
}

func (s *stress) checkLock(w *ward, infos []rwlock.Info) {
	holders, writers := 0, 0
	for n, i := range infos {
		if !i.Waiting {
			holders++
			if i.Mode == exclusive {
				writers++
			}
			continue
		}
		first := n == holders
		blocked := writers > 0 || holders > 0 && i.Mode == exclusive || w.limit > 0 && holders >= int(w.limit)
		if first && i.Tag == single && !blocked {
			s.t.Errorf("%s: the first waiter waits for nobody: %v", w.key, infos)
		}
		if i.Since.IsZero() || i.For < 0 {
			s.t.Errorf("%s: a wait without a start: %v", w.key, i)
		}
	}
	if writers > 1 || writers == 1 && holders > 1 || w.limit > 0 && holders > int(w.limit) {
		s.t.Errorf("%s: holders that exclude each other: %v", w.key, infos)
	}
	if holders < len(infos) {
		for _, i := range infos[:holders] {
			if i.Since.IsZero() {
				s.t.Errorf("%s: somebody waits for a hold without a start: %v", w.key, infos)
			}
		}
	}
}

func TestStress(t *testing.T) {
	before := runtime.NumGoroutine()
	s := newStress(t)
	workers, rounds := 32, 600
	if testing.Short() {
		rounds = 100
	}

	var working sync.WaitGroup
	for range workers {
		rnd := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
		working.Go(func() { s.worker(rnd, rounds) })
	}
	finished := make(chan struct{})
	var observing sync.WaitGroup
	observing.Go(func() {
		for {
			select {
			case <-finished:
				return
			default:
				s.observe()
				runtime.Gosched()
			}
		}
	})
	working.Wait()
	close(finished)
	observing.Wait()

	expectIdle(t, s.table)
	for _, w := range s.wards {
		if w.lock != nil {
			expectIdle(t, w.lock)
		}
	}
	expectGoroutines(t, before)
}

// expectGoroutines fails if there are more goroutines than before, once those that are
// about to end have had the time to.
func expectGoroutines(t *testing.T, before int) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
			return
		}
		runtime.Gosched()
	}
}

// Users who write through a gate, beside readers, whom nobody may keep for ever, and
// others who pass.
func TestStressAtTheGate(t *testing.T) {
	s := newStress(t)
	var working sync.WaitGroup
	for range 16 {
		working.Go(func() {
			rnd := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
			for range 1000 {
				s.atGate(rnd)
			}
		})
	}
	working.Wait()
	expectIdle(t, s.table)
	expectIdle(t, s.gate())
}

// atGate reads or writes a user, or uses the gate alone.
func (s *stress) atGate(rnd *rand.Rand) {
	picked := [][]int{{5}, {rnd.IntN(3)}, {rnd.IntN(3), 5}, {rnd.IntN(3), 5}}[rnd.IntN(4)]
	mode := rwlock.Mode(rnd.IntN(2))
	holds, reqs := make([]rwlock.Hold, len(picked)), []rwlock.Request{}
	for i, n := range picked {
		reqs = append(reqs, s.requestOf(s.wards[n], mode, &holds[i]))
	}
	if err := s.acquire(rnd, reqs); err != nil {
		return
	}
	for _, n := range picked {
		s.wards[n].use(s.t, mode)
	}
	for i := range holds {
		holds[i].Release()
	}
}
