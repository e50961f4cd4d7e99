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

// modelOwners has the owner of each user: four users are goroutines of one owner, and one
// has none.
var modelOwners = [modelUsers]int{0, 0, 1, 2, 3, 0, 0, noOwner}

const noOwner = -1

var modelKinds = [4]rwlock.Kind{rwlock.Leaf, rwlock.Rows, rwlock.Tx, rwlock.Section}

// part is what a request asks of one lock.
type part struct {
	user, lock int
	mode       rwlock.Mode
	kind       rwlock.Kind
}

func (p part) String() string {
	return fmt.Sprintf("%d.%d(%v %v)", p.user, p.lock, p.mode, p.kind)
}

func (p part) lasting() bool { return p.kind != rwlock.Leaf }

// modesConflict is what strangers must obey.
func (p part) modesConflict(q part) bool {
	return p.lock == q.lock && (p.mode == exclusive || q.mode == exclusive)
}

func (p part) sameOwner(q part) bool {
	return modelOwners[p.user] == modelOwners[q.user] && modelOwners[p.user] != noOwner
}

// besideOwn is the decision table for a request (row) and a hold (column) of one
// owner: which modes of the request are granted.
var besideOwn = map[rwlock.Kind]map[rwlock.Kind]string{
	rwlock.Leaf:    {rwlock.Rows: "rw", rwlock.Tx: "rw", rwlock.Section: "rw", rwlock.Leaf: ""},
	rwlock.Rows:    {rwlock.Rows: "rw", rwlock.Tx: "rw", rwlock.Section: "rw", rwlock.Leaf: ""},
	rwlock.Tx:      {rwlock.Rows: "rw", rwlock.Tx: "r", rwlock.Section: "r", rwlock.Leaf: "w beside r"},
	rwlock.Section: {rwlock.Rows: "rw", rwlock.Tx: "r", rwlock.Section: "r", rwlock.Leaf: ""},
}

// conflicts says whether p must wait for the hold q.
func (p part) conflicts(q part) bool {
	if !p.modesConflict(q) {
		return false
	}
	if p.lock == modelPool || !p.sameOwner(q) {
		return true
	}
	granted := besideOwn[p.kind][q.kind]
	if granted == "w beside r" {
		return p.mode == shared || q.mode == exclusive
	}
	return !strings.Contains(granted, "rw"[p.mode:p.mode+1])
}

// place is a part that waits in a queue.
type place struct {
	part
	request *modelRequest
	ahead   bool
}

// modelRequest is a waiting request of the model.
type modelRequest struct {
	parts    []part
	deadline time.Duration
	result   *error
}

// model is the sequential reference: a list of what is held, and who waits for it.
type model struct {
	held    []part
	waiting []*modelRequest
	queues  [modelLocks][]*place
}

// inTheWay returns the holders and the earlier waiters that are in the way of a place.
// Where slots are limited, the holders are in the way when none is left.
func (m *model) inTheWay(p *place) (holders []part, waiters []*place) {
	full := p.lock == modelPool && m.holders(modelPool) >= modelSlots
	for _, q := range m.held {
		if p.conflicts(q) || full && q.lock == p.lock {
			holders = append(holders, q)
		}
	}
	for _, q := range m.queues[p.lock] {
		if q == p {
			break
		}
		turn := !p.ahead || q.ahead && p.sameOwner(q.part)
		if turn && (p.modesConflict(q.part) || p.lock == modelPool) {
			waiters = append(waiters, q)
		}
	}
	return holders, waiters
}

func (m *model) placesOf(r *modelRequest) (places []*place) {
	for _, queue := range m.queues {
		for _, p := range queue {
			if p.request == r {
				places = append(places, p)
			}
		}
	}
	return places
}

func (m *model) grantable(r *modelRequest) bool {
	return !slices.ContainsFunc(m.placesOf(r), func(p *place) bool {
		holders, waiters := m.inTheWay(p)
		return len(holders)+len(waiters) > 0
	})
}

func (m *model) holders(lock int) (n int) {
	for _, p := range m.held {
		if p.lock == lock {
			n++
		}
	}
	return n
}

// settle grants what can be granted, until nothing more can: those first who ask for one
// lock only, for the others are retried later.
func (m *model) settle() {
	for {
		var next *modelRequest
		for _, queue := range m.queues {
			for _, p := range queue {
				better := next == nil || len(next.parts) > 1 && len(p.request.parts) == 1
				if better && m.grantable(p.request) {
					next = p.request
				}
			}
		}
		if next == nil {
			return
		}
		m.leave(next)
		for _, p := range next.parts {
			m.held = append(m.held, p)
			m.promoteOwn(p)
		}
		*next.result = nil
	}
}

// leave takes a request out of all queues.
func (m *model) leave(r *modelRequest) {
	m.waiting = slices.DeleteFunc(m.waiting, func(q *modelRequest) bool { return q == r })
	for lock := range m.queues {
		m.queues[lock] = slices.DeleteFunc(m.queues[lock], func(p *place) bool { return p.request == r })
	}
}

// reenters says whether p may pass the queue: its owner has the lock, and is not in its
// own way.
func (m *model) reenters(p part) bool {
	lasting := false
	for _, q := range m.held {
		if q.lock != p.lock || p.lock == modelPool || !p.sameOwner(q) {
			continue
		}
		if p.conflicts(q) {
			return false
		}
		lasting = lasting || q.lasting()
	}
	return lasting
}

// promoteOwn puts ahead what the owner of p may pass the queue for, now that p was granted
// or has ended.
func (m *model) promoteOwn(p part) {
	for _, q := range slices.Clone(m.queues[p.lock]) {
		if !q.ahead && q.sameOwner(p) && m.reenters(q.part) {
			m.promote(q)
		}
	}
}

func (m *model) promote(p *place) {
	if p.ahead {
		return
	}
	queue := &m.queues[p.lock]
	*queue = slices.DeleteFunc(*queue, func(q *place) bool { return p == q })
	p.ahead = true
	m.enqueue(p)
}

func (m *model) enqueue(p *place) {
	queue := &m.queues[p.lock]
	at := len(*queue)
	if p.ahead {
		at = 0
		for at < len(*queue) && (*queue)[at].ahead {
			at++
		}
	}
	*queue = slices.Insert(*queue, at, p)
}

// free returns the waiting requests that can go on, as far as is known: it frees one after
// the other until nobody more can. For the one that is given, only holders count.
func (m *model) free(holdersOnly *modelRequest) map[*modelRequest]bool {
	free := map[*modelRequest]bool{}
	for {
		before := len(free)
		for _, w := range m.waiting {
			if !free[w] && m.goesOn(w, free, w == holdersOnly) {
				free[w] = true
			}
		}
		if len(free) == before {
			return free
		}
	}
}

func (m *model) goesOn(r *modelRequest, free map[*modelRequest]bool, holdersOnly bool) bool {
	for _, p := range m.placesOf(r) {
		holders, waiters := m.inTheWay(p)
		if !holdersOnly && slices.ContainsFunc(waiters, func(q *place) bool { return !free[q.request] }) {
			return false
		}
		ends, strangers := 0, 0
		for _, q := range holders {
			switch {
			case p.sameOwner(q) && (p.lock != modelPool || q.lasting()):
				continue // itself
			case m.ends(q, free) || p.sameOwner(q):
				ends++
			}
			strangers++
		}
		slot := p.lock == modelPool && p.mode == shared && len(holders) >= modelSlots
		if slot && strangers > 0 && ends == 0 || !slot && ends < strangers {
			return false
		}
	}
	return true
}

// ends says whether the hold q ends: a statement unless its call waits for a slot, others
// unless all waits of the owner, but those for itself, are stuck.
func (m *model) ends(q part, free map[*modelRequest]bool) bool {
	if modelOwners[q.user] == noOwner {
		return true
	}
	var waits []bool
	for _, r := range m.waiting {
		if waitsOfHold(r, q) && !(q.lasting() && m.inOwnWay(r)) {
			waits = append(waits, free[r])
		}
	}
	return len(waits) == 0 || slices.Contains(waits, true)
}

// inOwnWay says whether r waits for its own owner: for a hold in conflict, or for one
// of the slots if the owner has them all.
func (m *model) inOwnWay(r *modelRequest) bool {
	return slices.ContainsFunc(m.placesOf(r), func(p *place) bool {
		holders, _ := m.inTheWay(p)
		own := func(q part) bool { return p.sameOwner(q) }
		if p.lock == modelPool && p.mode == shared && len(holders) >= modelSlots {
			return !slices.ContainsFunc(holders, func(q part) bool { return !own(q) })
		}
		return slices.ContainsFunc(holders, own)
	})
}

// inCycle says whether r, which is stuck, waits for itself in the end.
func (m *model) inCycle(r *modelRequest) bool {
	free, seen := m.free(nil), map[*modelRequest]bool{}
	var follow func(w *modelRequest) bool
	follow = func(w *modelRequest) bool {
		if free[w] || seen[w] {
			return false
		}
		seen[w] = true
		return slices.ContainsFunc(m.stuckFor(w, free), func(next *modelRequest) bool {
			return next == r || follow(next)
		})
	}
	return follow(r)
}

// stuckFor returns the waits for whose sake r is stuck.
func (m *model) stuckFor(r *modelRequest, free map[*modelRequest]bool) (waits []*modelRequest) {
	for _, p := range m.placesOf(r) {
		holders, waiters := m.inTheWay(p)
		for _, q := range waiters {
			if !free[q.request] {
				waits = append(waits, q.request)
			}
		}
		slot := p.lock == modelPool && p.mode == shared && len(holders) >= modelSlots
		if slot && slices.ContainsFunc(holders, func(q part) bool {
			return !p.sameOwner(q) && m.ends(q, free) || p.sameOwner(q) && !q.lasting()
		}) {
			continue
		}
		for _, q := range holders {
			for _, w := range m.waiting {
				if !p.sameOwner(q) && !m.ends(q, free) && waitsOfHold(w, q) {
					waits = append(waits, w)
				}
			}
		}
	}
	return waits
}

// waitsOfHold says whether w is one of the waits on which the end of q depends.
func waitsOfHold(w *modelRequest, q part) bool {
	if q.lasting() {
		return w.parts[0].sameOwner(q)
	}
	last := w.parts[len(w.parts)-1]
	return last.sameOwner(q) && last.user == q.user && last.lock == modelPool && q.lock == 0
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
	if len(r.parts) == 0 {
		return // granted
	}
	*r.result = errWaiting
	m.waiting = append(m.waiting, r)
	for _, p := range r.parts {
		m.enqueue(&place{part: p, request: r, ahead: m.reenters(p)})
	}
	m.settle()
	if !wait {
		m.end(r, rwlock.ErrTimeout)
		return
	}
	m.searchDeadlock(r)
}

// searchDeadlock is what happens when a wait begins: who waits for ever only because others
// come first, is put first.
func (m *model) searchDeadlock(r *modelRequest) {
	stuck := func() bool {
		return slices.Contains(m.waiting, r) && !m.free(nil)[r] && m.inCycle(r)
	}
	if stuck() && m.free(r)[r] {
		for _, p := range m.placesOf(r) {
			m.promote(p)
		}
		m.settle()
	}
	if stuck() {
		m.end(r, rwlock.ErrDeadlock)
	}
}

// end ends the wait of r, if it waits, for the given reason.
func (m *model) end(r *modelRequest, reason error) {
	if !slices.Contains(m.waiting, r) {
		return
	}
	m.leave(r)
	*r.result = reason
	m.settle()
}

func (m *model) release(user, lock int) {
	for i, p := range m.held {
		if p.user == user && p.lock == lock {
			m.held = slices.Delete(m.held, i, i+1)
			m.promoteOwn(p)
			m.settle()
			return
		}
	}
}

func (m *model) move(from, to, lock int, kind rwlock.Kind) {
	if m.busy(part{user: to, lock: lock}) {
		return
	}
	for i, p := range m.held {
		if p.user == from && p.lock == lock {
			m.held[i].user, m.held[i].kind = to, kind
			m.promoteOwn(p)
			m.promoteOwn(m.held[i])
			m.settle()
			return
		}
	}
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
		for _, p := range m.queues[lock] {
			waiting = append(waiting, p.String())
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
				h := &e.holds[user][lock]
				h.Tag = fmt.Sprint(user)
				if o := modelOwners[user]; o != noOwner {
					h.Owner = &e.owners[o]
				}
			}
			e.holds[user][modelPool].With = &e.holds[user][0]
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
		for i := range e.owners {
			expectAwaited(t, &e.owners[i], 0)
		}
	})
}

// A step is two bytes: the operation (3 bits), the user (3 bits) and the kind (2 bits) in
// the first, what is asked in the second: lock (2 bits), mode (1), timeout (2).
const (
	opAcquire    = 0
	opAcquireAll = 2 // the second byte: a bit for each lock to ask for, modes (3 bits), timeout (1)
	opRelease    = 4
	opCancel     = 6
	opSleep      = 7 // the second byte: milliseconds (6 bits)

	asRows, asTx, asSection = 1 << 6, 2 << 6, 3 << 6

	askR, askW     = 0 << 2, 1 << 2
	hasty, patient = 1 << 3, 3 << 3
)

func (e *execution) step(op, arg byte) {
	e.sleep(time.Millisecond)
	user := int(op>>3) % modelUsers
	lock := int(arg) % modelLocks
	kind := modelKinds[op>>6]
	switch op % 8 {
	case opAcquire, opAcquire + 1: // twice as often as the rarer ones
		e.acquire(user, modelTimeouts[arg>>3&3], part{user, lock, rwlock.Mode(arg >> 2 & 1), kind})
	case opAcquireAll, opAcquireAll + 1:
		var parts []part
		for l := range modelLocks {
			if arg>>l&1 != 0 {
				parts = append(parts, part{user, l, rwlock.Mode((int(arg>>4) + l) & 1), kind})
			}
		}
		e.acquire(user, modelTimeouts[2+arg>>7], parts...)
	case opRelease, opRelease + 1:
		if arg>>6 == 3 {
			e.move(user, int(arg>>3)%modelUsers, lock, kind)
		} else {
			e.release(user, lock)
		}
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
	for _, p := range parts {
		if h := &e.holds[p.user][p.lock]; !e.model.busy(p) {
			h.Kind = p.kind
		}
	}
	go func() { r.got = e.acquireReal(ctx, rwlock.Wait{Timeout: timeout, Self: 2 * long}, parts) }()
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

func (e *execution) move(from, to, lock int, kind rwlock.Kind) {
	e.logf("user %d moves lock %d to user %d, as %v", from, lock, to, kind)
	if !e.model.busy(part{user: to, lock: lock}) {
		e.holds[to][lock].Kind = kind
	}
	e.holds[from][lock].Move(&e.holds[to][lock])
	synctest.Wait()
	e.model.move(from, to, lock, kind)
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
		p := part{user: int(i.Tag[0] - '0'), lock: int(i.Key[0] - '0'), mode: i.Mode, kind: i.Kind}
		if i.Waiting {
			real.queues[p.lock] = append(real.queues[p.lock], &place{part: p})
		} else {
			real.held = append(real.held, p)
		}
	}
	return real.state()
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

func init() {
	for name, steps := range map[string][][2]byte{
		"opposite order": {
			do(opAcquire|asTx, 2, askW|patient), do(opAcquire|asTx, 3, askW|patient|1),
			do(opAcquire|asTx, 2, askW|patient|1), do(opAcquire|asTx, 3, askW|patient)},
		"upgrades": {
			do(opAcquire|asRows, 0, askR|patient), do(opAcquire|asRows, 2, askR|patient),
			do(opAcquire, 1, askW|patient), do(opAcquire|asTx, 3, askR|patient), do(opRelease, 2, 0)},
		"reader behind its own read": {
			do(opAcquire|asRows, 0, askR|patient), do(opAcquire, 2, askW|patient),
			do(opAcquire|asRows, 1, askR|patient)},
		"statement waits for a slot": {
			do(opAcquire|asTx, 2, askR|patient|modelPool), do(opAcquire|asTx, 4, askR|patient|modelPool),
			do(opAcquire, 3, askW|patient), do(opAcquire, 3, askR|patient|modelPool),
			do(opAcquire, 4, askR|patient|modelPool), do(opAcquire, 2, askR|patient)},
		"behind a group that waits for oneself": {
			do(opAcquire|asSection, 2, askW|patient), do(opAcquireAll, 3, 0x83), do(opAcquire, 2, askW|patient|1)},
	} {
		seedSchedules[name] = schedule(steps...)
	}
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
	schedules := 300
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
