package rwlock_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// A schedule is a string of bytes, two for each step: who does what. It is executed
// twice, by the locks and by a model of them that is too simple to be wrong, and after
// each step both must agree on who holds and who waits for what, and in which order.

// The locks of a schedule: three keys of a table, and a pool of two slots.
const (
	modelKeys  = 3
	modelPool  = modelKeys
	modelLocks = modelKeys + 1
	modelSlots = 2
	modelUsers = 8 // each with one hold for each lock
)

// Timeouts and steps end at times that are all different, so that what happens
// first is never a matter of chance: steps at full milliseconds, waits between.
var modelTimeouts = [4]time.Duration{
	0,
	20*time.Millisecond + 250*time.Microsecond,
	50*time.Millisecond + 750*time.Microsecond,
	long,
}

// part is what a request asks of one lock.
type part struct {
	user, lock int
	mode       rwlock.Mode
}

func (p part) String() string { return fmt.Sprintf("%d.%d(%v)", p.user, p.lock, p.mode) }

func (p part) conflicts(q part) bool {
	return p.lock == q.lock && (p.mode == exclusive || q.mode == exclusive)
}

// modelRequest is a waiting request of the model.
type modelRequest struct {
	parts    []part
	deadline time.Duration
	result   *error
}

// model is the sequential reference: a list of what is held, and a list of who waits.
type model struct {
	held    []part
	waiting []*modelRequest
}

// grantable is the rule that the locks must obey: no holder is in conflict, nor anybody
// who came earlier, and where slots are limited, one is left and nobody came earlier.
func (m *model) grantable(r *modelRequest) bool {
	for _, p := range r.parts {
		if slices.ContainsFunc(m.held, p.conflicts) {
			return false
		}
		for _, earlier := range m.waiting {
			if earlier == r {
				break
			}
			if slices.ContainsFunc(earlier.parts, func(q part) bool {
				return p.conflicts(q) || p.lock == modelPool && q.lock == modelPool
			}) {
				return false
			}
		}
		if p.lock == modelPool && m.holders(modelPool) >= modelSlots {
			return false
		}
	}
	return true
}

func (m *model) holders(lock int) (n int) {
	for _, p := range m.held {
		if p.lock == lock {
			n++
		}
	}
	return n
}

// settle grants what can be granted, until nothing more can.
func (m *model) settle() {
	for {
		i := slices.IndexFunc(m.waiting, m.grantable)
		if i < 0 {
			return
		}
		r := m.waiting[i]
		m.waiting = slices.Delete(m.waiting, i, i+1)
		m.held = append(m.held, r.parts...)
		*r.result = nil
	}
}

func (m *model) busy(q part) bool {
	same := func(p part) bool { return p.user == q.user && p.lock == q.lock }
	return slices.ContainsFunc(m.held, same) || slices.ContainsFunc(m.waiting, func(r *modelRequest) bool {
		return slices.ContainsFunc(r.parts, same)
	})
}

func (m *model) acquire(r *modelRequest, wait bool) {
	if slices.ContainsFunc(r.parts, m.busy) {
		*r.result = rwlock.ErrHoldInUse
		return
	}
	*r.result = errWaiting
	m.waiting = append(m.waiting, r)
	m.settle()
	if !wait {
		m.end(r, rwlock.ErrTimeout)
	}
}

// end ends the wait of r, if it waits, for the given reason.
func (m *model) end(r *modelRequest, reason error) {
	i := slices.Index(m.waiting, r)
	if i < 0 {
		return
	}
	m.waiting = slices.Delete(m.waiting, i, i+1)
	*r.result = reason
	m.settle()
}

func (m *model) release(user, lock int) {
	m.held = slices.DeleteFunc(m.held, func(p part) bool { return p.user == user && p.lock == lock })
	m.settle()
}

// expire ends the waits whose deadlines have come, one after the other.
func (m *model) expire(now time.Duration) {
	for {
		var next *modelRequest
		for _, r := range m.waiting {
			if r.deadline <= now && (next == nil || r.deadline < next.deadline) {
				next = r
			}
		}
		if next == nil {
			return
		}
		m.end(next, rwlock.ErrTimeout)
	}
}

// state lists, for each lock, who holds it (in any order, since requests that are
// granted in one step have none) and who waits (in order).
func (m *model) state() string {
	var b strings.Builder
	for lock := range modelLocks {
		var held, waiting []string
		for _, p := range m.held {
			if p.lock == lock {
				held = append(held, p.String())
			}
		}
		for _, r := range m.waiting {
			for _, p := range r.parts {
				if p.lock == lock {
					waiting = append(waiting, p.String())
				}
			}
		}
		slices.Sort(held)
		fmt.Fprintf(&b, "lock %d: held by %v, awaited by %v\n", lock, held, waiting)
	}
	return b.String()
}

var errWaiting = errors.New("waiting")

// execution executes a schedule on real locks beside the model.
type execution struct {
	t      *testing.T
	start  time.Time
	table  *rwlock.Table
	pool   *rwlock.Lock
	owners [modelUsers]rwlock.Owner
	holds  [modelUsers][modelLocks]rwlock.Hold
	model  model
	latest [modelUsers]*execRequest
	all    []*execRequest
	log    []string
}

// execRequest is one request and what became of it, for real and in the model.
type execRequest struct {
	model     *modelRequest
	cancel    context.CancelFunc
	got, want error
}

// runSchedule executes a schedule, checks each step, and then that everybody can leave
// and nothing is left.
func runSchedule(t *testing.T, schedule []byte) {
	synctest.Test(t, func(t *testing.T) {
		e := &execution{t: t, start: time.Now(), table: rwlock.NewTable(), pool: rwlock.NewLock("3", modelSlots)}
		for user := range modelUsers {
			for lock := range modelLocks {
				e.holds[user][lock].Owner = &e.owners[user]
			}
		}
		for ; len(schedule) >= 2; schedule = schedule[2:] {
			e.step(schedule[0], schedule[1])
			e.check()
		}
		for _, r := range e.all {
			e.cancelRequest(r)
			e.check()
		}
		for user := range modelUsers {
			for lock := range modelLocks {
				e.release(user, lock)
				e.check()
			}
		}
		expectIdle(t, e.table)
		expectIdle(t, e.pool)
	})
}

// A step is two bytes: the operation (3 bits) and the user (3 bits) in the first, what is
// asked in the second: lock (2 bits), mode (1), timeout (2).
const (
	opAcquire    = 0
	opAcquireAll = 2 // the second byte: a bit for each lock to ask for, modes (3 bits), timeout (1)
	opRelease    = 4
	opCancel     = 6
	opSleep      = 7 // the second byte: milliseconds (6 bits)

	askR, askW     = 0 << 2, 1 << 2
	hasty, patient = 1 << 3, 3 << 3
)

func (e *execution) step(op, arg byte) {
	e.sleep(time.Millisecond)
	user := int(op>>3) % modelUsers
	lock := int(arg) % modelLocks
	switch op % 8 {
	case opAcquire, opAcquire + 1: // twice as often as the rarer ones
		e.acquire(user, modelTimeouts[arg>>3&3], part{user, lock, rwlock.Mode(arg >> 2 & 1)})
	case opAcquireAll, opAcquireAll + 1:
		var parts []part
		for l := range modelLocks {
			if arg>>l&1 != 0 {
				parts = append(parts, part{user, l, rwlock.Mode((int(arg>>4) + l) & 1)})
			}
		}
		e.acquire(user, modelTimeouts[2+arg>>7], parts...)
	case opRelease, opRelease + 1:
		e.release(user, lock)
	case opCancel:
		if r := e.latest[user]; r != nil {
			e.cancelRequest(r)
		}
	case opSleep:
		e.sleep(time.Duration(arg%64) * time.Millisecond)
	}
}

func (e *execution) sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
	e.model.expire(time.Since(e.start))
}

func (e *execution) acquire(user int, timeout time.Duration, parts ...part) {
	e.logf("user %d asks within %v for %v", user, timeout, parts)
	ctx, cancel := context.WithCancel(e.t.Context())
	r := &execRequest{cancel: cancel, got: errWaiting}
	r.model = &modelRequest{parts: parts, deadline: time.Since(e.start) + timeout, result: &r.want}
	e.all = append(e.all, r)
	e.latest[user] = r
	go func() { r.got = e.acquireReal(ctx, rwlock.Wait{Timeout: timeout}, parts) }()
	synctest.Wait()
	e.model.acquire(r.model, timeout > 0)
}

func (e *execution) acquireReal(ctx context.Context, w rwlock.Wait, parts []part) error {
	if len(parts) == 1 {
		p := parts[0]
		h := &e.holds[p.user][p.lock]
		if p.lock == modelPool {
			return e.pool.Acquire(ctx, p.mode, h, w)
		}
		return e.table.Acquire(ctx, fmt.Sprint(p.lock), p.mode, h, w)
	}
	var reqs []rwlock.Request
	for _, p := range parts {
		r := rwlock.Request{Table: e.table, Key: fmt.Sprint(p.lock), Mode: p.mode, Hold: &e.holds[p.user][p.lock]}
		if p.lock == modelPool {
			r.Table, r.Lock = nil, e.pool
		}
		reqs = append(reqs, r)
	}
	return rwlock.AcquireAll(ctx, w, reqs...)
}

func (e *execution) release(user, lock int) {
	e.logf("user %d releases lock %d", user, lock)
	e.holds[user][lock].Release()
	synctest.Wait()
	e.model.release(user, lock)
}

func (e *execution) cancelRequest(r *execRequest) {
	e.logf("cancelled: %v", r.model.parts)
	r.cancel()
	synctest.Wait()
	e.model.end(r.model, context.Canceled)
}

func (e *execution) logf(format string, args ...any) {
	e.log = append(e.log, fmt.Sprintf("%v: ", time.Since(e.start))+fmt.Sprintf(format, args...))
}

func (e *execution) check() {
	for _, r := range e.all {
		if !errors.Is(r.got, r.want) {
			e.fail("%v: result %v, want %v", r.model.parts, r.got, r.want)
		}
	}
	if got, want := e.state(), e.model.state(); got != want {
		e.fail("locks:\n%swant:\n%s", got, want)
	}
	inUse := map[int]bool{}
	for _, i := range e.table.Snapshot() {
		inUse[int(i.Key[0])] = true
	}
	if n := e.table.Len(); n != len(inUse) {
		e.fail("the table has %d keys, %d are in use", n, len(inUse))
	}
}

// state is what model.state is, as seen in the real locks.
func (e *execution) state() string {
	var real model
	for _, i := range append(e.table.Snapshot(), e.pool.Snapshot()...) {
		p := part{user: e.userOf(i.Owner), lock: int(i.Key[0] - '0'), mode: i.Mode}
		if i.Waiting {
			real.waiting = append(real.waiting, &modelRequest{parts: []part{p}})
		} else {
			real.held = append(real.held, p)
		}
	}
	return real.state()
}

func (e *execution) userOf(owner *rwlock.Owner) int {
	for user := range e.owners {
		if owner == &e.owners[user] {
			return user
		}
	}
	return -1
}

func (e *execution) fail(format string, args ...any) {
	e.t.Helper()
	e.t.Fatalf("after\n%s\n%s", strings.Join(e.log, "\n"), fmt.Sprintf(format, args...))
}

// The schedules that the fuzzer starts from.
var seedSchedules = map[string][]byte{
	"empty": {},
	"writer, then readers": schedule(
		do(opAcquire, 0, askW|patient), do(opAcquire, 1, askR|patient), do(opAcquire, 2, askR|patient),
		do(opRelease, 0, 0)),
	"writer between readers is cancelled": schedule(
		do(opAcquire, 0, askR|patient), do(opAcquire, 1, askW|patient), do(opAcquire, 2, askR|patient),
		do(opCancel, 1, 0)),
	"second writer times out": schedule(
		do(opAcquire, 0, askW|hasty), do(opAcquire, 1, askW|hasty), do(opSleep, 0, 63)),
	"ring": schedule(
		do(opAcquireAll, 0, 0xf3), do(opAcquireAll, 1, 0xf6), do(opAcquireAll, 2, 0xf5),
		do(opRelease, 0, 0), do(opRelease, 0, 1), do(opRelease, 1, 1), do(opRelease, 1, 2)),
	"full pool": schedule(
		do(opAcquire, 0, askR|patient|modelPool), do(opAcquire, 1, askR|patient|modelPool),
		do(opAcquire, 2, askR|patient|modelPool), do(opAcquireAll, 3, 0x99), do(opRelease, 0, modelPool)),
}

func schedule(steps ...[2]byte) (all []byte) {
	for _, s := range steps {
		all = append(all, s[0], s[1])
	}
	return all
}

func do(op, user, arg byte) [2]byte { return [2]byte{op | user<<3, arg} }

func TestSchedulesAgreeWithModel(t *testing.T) {
	for name, schedule := range seedSchedules {
		t.Run(name, func(t *testing.T) { runSchedule(t, schedule) })
	}
	schedules := 150
	if testing.Short() {
		schedules = 30
	}
	for i := range schedules {
		t.Run(fmt.Sprint("random ", i), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(uint64(i), 0))
			schedule := make([]byte, 2*(1+rnd.IntN(150)))
			for j := range schedule {
				schedule[j] = byte(rnd.Uint32())
			}
			runSchedule(t, schedule)
		})
	}
}

func FuzzSchedule(f *testing.F) {
	for _, schedule := range seedSchedules {
		f.Add(schedule)
	}
	f.Fuzz(func(t *testing.T, schedule []byte) {
		runSchedule(t, schedule[:min(len(schedule), 400)])
	})
}
