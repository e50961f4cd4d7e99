package rwlock_test

import (
	"context"
	"encoding/hex"
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

// The locks of a schedule: three keys of a table, a pool of two slots, and a gate.
const (
	modelKeys  = 3
	modelPool  = modelKeys
	modelGate  = modelKeys + 1
	modelLocks = modelKeys + 2
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

// A family says which owner each is inside of.
type family [4]int

var (
	strangers = family{noOwner, noOwner, noOwner, noOwner}
	kin       = family{noOwner, 0, 1, 0} // a line of three, and another inside the first
)

// inLine says whether the owners of two users are one, or one is inside the other.
func (f family) inLine(user1, user2 int) bool {
	a, b := modelOwners[user1], modelOwners[user2]
	return a != noOwner && b != noOwner && (f.isInside(a, b) || f.isInside(b, a))
}

func (f family) isInside(a, b int) bool {
	return a == b || f[a] != noOwner && f.isInside(f[a], b)
}

var modelKinds = [4]rwlock.Kind{rwlock.Leaf, rwlock.Rows, rwlock.Tx, rwlock.Section}

// part is what a request asks of one lock.
type part struct {
	user, lock int
	mode       rwlock.Mode
	kind       rwlock.Kind
	group      int // of modelGroups, for the pool
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
func (f family) conflicts(p, q part) bool {
	if !p.modesConflict(q) {
		return false
	}
	if p.lock >= modelPool || !f.inLine(p.user, q.user) {
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

	gated bool // it waits at the gate, and then for one other lock
	turn  bool // it has been its turn at the gate, and the other lock was taken
	next  bool // and that was free later, but the gate was not
}

// letsPass says whether a request that is gated lets q pass, which comes later.
func (p *place) letsPass(q part) bool {
	r := p.request
	if p.lock == modelGate {
		return r.gated && r.turn && !r.next
	}
	return r.gated && !r.turn && q.mode == shared
}

// modelWait is what may go on: a request, or one at the gate as far as its turn.
type modelWait struct {
	*modelRequest
	turn bool
}

func whole(r *modelRequest) modelWait { return modelWait{r, false} }

// wait is what somebody waits for who is behind p.
func (p *place) wait() modelWait {
	return modelWait{p.request, p.request.gated && p.lock == modelGate}
}

// keepsTurn says whether p would wait for q, too, if it was put ahead.
func (p *place) keepsTurn(q *place) bool { return q.ahead && p.sameOwner(q.part) }

// model is the sequential reference: a list of what is held, and who waits for it.
type model struct {
	family
	held    []part
	waiting []*modelRequest
	queues  [modelLocks][]*place
	turns   modelTurns
	moved   []*modelRequest // have got in the way of others, which has not been looked at

	circleLeft bool // one of turns that the near turns do not show
}

// inTheWay returns the holders and the earlier waiters that are in the way of a place.
// Where slots are limited, the holders are in the way when none is left.
func (m *model) inTheWay(p *place) (holders []part, waiters []*place) {
	full := p.lock == modelPool && m.holders(modelPool) >= modelSlots
	for _, q := range m.held {
		if m.conflicts(p.part, q) || full && q.lock == p.lock {
			holders = append(holders, q)
		}
	}
	for _, q := range m.queues[p.lock] {
		if q == p {
			break
		}
		turn := !p.ahead || p.keepsTurn(q)
		if turn && (p.modesConflict(q.part) || p.lock == modelPool) && !q.letsPass(p.part) {
			waiters = append(waiters, q)
		}
	}
	return holders, waiters
}

func (m *model) placesOf(r *modelRequest) (places []*place) {
	return m.placesOfWait(whole(r))
}

func (m *model) placesOfWait(w modelWait) (places []*place) {
	for lock, queue := range m.queues {
		for _, p := range queue {
			if p.request == w.modelRequest && (!w.turn || lock == modelGate) {
				places = append(places, p)
			}
		}
	}
	return places
}

func (m *model) grantable(r *modelRequest) bool {
	return !slices.ContainsFunc(m.placesOf(r), m.blocked)
}

func (m *model) blocked(p *place) bool {
	holders, waiters := m.inTheWay(p)
	return len(holders)+len(waiters) > 0
}

func (m *model) holders(lock int) (n int) {
	for _, p := range m.held {
		if p.lock == lock {
			n++
		}
	}
	return n
}

// settle grants what can be granted, and puts those ahead who are in a circle then because
// others have moved.
func (m *model) settle() {
	m.grantAll()
	m.untangle(nil)
}

// grantAll grants what can be granted, until nothing more can: those first who ask for one
// lock only, for the others are retried later, the oldest first.
func (m *model) grantAll() {
	for {
		next := m.nextSingle()
		if next == nil {
			next = m.nextOfSeveral()
		}
		if next == nil {
			return
		}
		if !m.grantable(next) {
			continue // it has advanced
		}
		m.leave(next, true)
		for _, p := range next.parts {
			m.held = append(m.held, p)
			m.promoteOwn(p)
		}
		*next.result = nil
	}
}

func (m *model) nextSingle() *modelRequest {
	for _, queue := range m.queues {
		for _, p := range queue {
			if len(p.request.parts) == 1 && m.grantable(p.request) {
				return p.request
			}
		}
	}
	return nil
}

func (m *model) nextOfSeveral() *modelRequest {
	for _, r := range m.waiting {
		if len(r.parts) > 1 && (m.grantable(r) || m.advance(r)) {
			return r
		}
	}
	return nil
}

// advance looks where a gated request is that cannot be granted, and says whether that has
// changed.
func (m *model) advance(r *modelRequest) bool {
	if !r.gated {
		return false
	}
	places := m.placesOf(r)
	userBlocked, gateBlocked := m.blocked(places[0]), m.blocked(places[1])
	switch {
	case !gateBlocked && (!r.turn || r.next):
		if !r.turn {
			m.moved = append(m.moved, r)
		}
		r.turn, r.next = true, false
	case gateBlocked && !userBlocked && r.turn && !r.next:
		m.moved = append(m.moved, r)
		r.next = true
	default:
		return false
	}
	return true
}

// leave takes a request out of all queues, because it is granted or ends.
func (m *model) leave(r *modelRequest, granted bool) {
	for _, p := range m.queues[modelPool] {
		if p.request == r {
			m.turns.leave(p, granted)
		}
	}
	m.waiting = slices.DeleteFunc(m.waiting, func(q *modelRequest) bool { return q == r })
	for lock := range m.queues {
		m.queues[lock] = slices.DeleteFunc(m.queues[lock], func(p *place) bool { return p.request == r })
	}
	m.queues[modelPool] = m.turns.inTurn()
}

// reenters says whether p may pass the queue: its owner's line has the lock, and is not in its
// own way.
func (m *model) reenters(p part) bool {
	lasting := false
	for _, q := range m.held {
		if q.lock != p.lock || p.lock >= modelPool || !m.inLine(p.user, q.user) {
			continue
		}
		if m.conflicts(p, q) {
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
		if !q.ahead && m.inLine(q.user, p.user) && m.reenters(q.part) {
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
	if p.lock == modelPool && m.holders(modelPool) >= modelSlots {
		m.waitForSlot(p)
		return
	}
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

// turns says which of the turns count that can be given up.
type turns int

const (
	noTurns turns = iota
	// nearTurns are those by which a circle is mended: where another way round leads through
	// the holders of the same lock, it is the shorter way. See near.
	nearTurns
	allTurns
)

// free returns the waiting requests that can go on, as far as is known: it frees one after
// the other until nobody more can.
func (m *model) free(turns turns) map[modelWait]bool {
	free := map[modelWait]bool{}
	for {
		before := len(free)
		for _, r := range m.waiting {
			for _, w := range []modelWait{{r, false}, {r, true}} {
				if !free[w] && m.goesOn(w, free, turns) {
					free[w] = true
				}
			}
		}
		if len(free) == before {
			return free
		}
	}
}

// counts says whether it counts that q, which is in the way of p, is before p. For a slot both
// wait for the same.
func (m *model) counts(p, q *place, turns turns) bool {
	switch {
	case p.lock == modelPool:
		return false
	case p.keepsTurn(q), turns == allTurns:
		return true
	default:
		return turns == nearTurns && m.near(p, q)
	}
}

// near says whether p waits for q by a way that is not longer than another. An exclusive
// request between them has q in its way, too. And where all wait for the one lock only, an
// exclusive request waits for all the holders that those before it wait for, unless it is
// beside its own: these then are in no circle for being waited for by it, and to put one of
// them ahead would help nobody else.
func (m *model) near(p, q *place) bool {
	if q.ahead {
		return true
	}
	if p.mode == exclusive && !m.groupWaits(p.lock) && !m.lineHas(p) {
		return false
	}
	_, waiters := m.inTheWay(p)
	between := waiters[slices.Index(waiters, q)+1:]
	return !slices.ContainsFunc(between, func(o *place) bool { return o.mode == exclusive })
}

// groupWaits says whether a request that is in the queue has to wait for another lock when it
// is its turn, and keeps its turn meanwhile.
func (m *model) groupWaits(lock int) bool {
	return slices.ContainsFunc(m.queues[lock], func(q *place) bool {
		return len(q.request.parts) > 1 && (!q.request.gated || lock != modelGate)
	})
}

// lineHas says whether a holder is of the line of p's owner.
func (m *model) lineHas(p *place) bool {
	return slices.ContainsFunc(m.held, func(q part) bool { return q.lock == p.lock && m.inLine(p.user, q.user) })
}

func (m *model) goesOn(w modelWait, free map[modelWait]bool, turns turns) bool {
	for _, p := range m.placesOfWait(w) {
		holders, waiters := m.inTheWay(p)
		for _, q := range waiters {
			if !free[q.wait()] && m.counts(p, q, turns) {
				return false
			}
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
		slot := p.lock == modelPool && len(holders) >= modelSlots
		if slot && strangers > 0 && ends == 0 || !slot && ends < strangers {
			return false
		}
	}
	return true
}

// ends says whether the hold q ends: a statement unless its call waits for a slot, others
// unless all waits of the owner, but those for itself, are stuck.
func (m *model) ends(q part, free map[modelWait]bool) bool {
	if modelOwners[q.user] == noOwner {
		return true
	}
	var waits []bool
	for _, r := range m.waiting {
		if waitsOfHold(r, q) && !(q.lasting() && m.inOwnWay(r)) {
			waits = append(waits, free[whole(r)])
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
		if p.lock == modelPool && len(holders) >= modelSlots {
			return !slices.ContainsFunc(holders, func(q part) bool { return !own(q) })
		}
		return slices.ContainsFunc(holders, own)
	})
}

// leads says whether a wait is stuck for the sake of another, or of itself.
func (m *model) leads(from, to modelWait, turns turns) bool {
	free, seen := m.free(turns), map[modelWait]bool{}
	var follow func(w modelWait) bool
	follow = func(w modelWait) bool {
		if free[w] || seen[w] {
			return false
		}
		seen[w] = true
		return slices.ContainsFunc(m.stuckFor(w, free, turns), func(next modelWait) bool {
			return next == to || follow(next)
		})
	}
	return from.modelRequest != nil && follow(from)
}

// stuckFor returns the waits for whose sake r is stuck.
func (m *model) stuckFor(w modelWait, free map[modelWait]bool, turns turns) (waits []modelWait) {
	for _, p := range m.placesOfWait(w) {
		holders, waiters := m.inTheWay(p)
		for _, q := range waiters {
			if !free[q.wait()] && m.counts(p, q, turns) {
				waits = append(waits, q.wait())
			}
		}
		slot := p.lock == modelPool && len(holders) >= modelSlots
		if slot && slices.ContainsFunc(holders, func(q part) bool {
			return !p.sameOwner(q) && m.ends(q, free) || p.sameOwner(q) && !q.lasting()
		}) {
			continue
		}
		for _, q := range holders {
			for _, w := range m.waiting {
				if !p.sameOwner(q) && !m.ends(q, free) && waitsOfHold(w, q) {
					waits = append(waits, whole(w))
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
	return w.parts[0].sameOwner(q) && slices.ContainsFunc(w.parts, func(p part) bool {
		return p.user == q.user && slices.Contains(modelWith[p.lock], q.lock)
	})
}

// modelWith has the locks of which a call has holds when it waits for another.
var modelWith = map[int][]int{modelPool: {modelGate, 0}, modelGate: {0}}

// linked says whether a request has holds that are linked to those of its call.
func linked(parts []part) bool {
	return slices.ContainsFunc(parts, func(p part) bool { return modelWith[p.lock] != nil })
}

// callWaits says whether the user waits with holds that are linked to its call.
func (m *model) callWaits(user int) bool {
	return slices.ContainsFunc(m.waiting, func(r *modelRequest) bool { return r.parts[0].user == user && linked(r.parts) })
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
	if !wait && !m.grantable(r) {
		m.leave(r, false)
		*r.result = rwlock.ErrTimeout
		return
	}
	m.grantAll()
	m.moved = slices.DeleteFunc(m.moved, func(q *modelRequest) bool { return q == r })
	m.untangle(nil)
	m.searchDeadlock(r)
}

// searchDeadlock is what happens when a wait begins.
func (m *model) searchDeadlock(r *modelRequest) {
	if m.leads(whole(r), whole(r), noTurns) {
		m.end(r, rwlock.ErrDeadlock)
		return
	}
	m.untangle(r)
}

// untangle puts ahead, one after the other, the oldest of those who are in a circle only
// because others come first, as long as r is in a circle, or one who has moved.
func (m *model) untangle(r *modelRequest) {
	roots := []modelWait{whole(r)}
	for {
		for _, r := range m.moved {
			roots = append(roots, whole(r), modelWait{r, true})
		}
		m.moved = nil
		v := m.overtaker(roots, nearTurns)
		if v == nil {
			m.checkNear(roots)
			return
		}
		for _, p := range m.placesOf(v) {
			m.promote(p)
		}
		m.moved = append(m.moved, v)
		m.grantAll()
	}
}

// checkNear checks that the near turns show every circle that is closed by turns only: of the
// roots that would go on without any turn, none may be in one still. (Who is stuck for holders
// is not helped by putting others ahead.)
func (m *model) checkNear(roots []modelWait) {
	free := m.free(noTurns)
	roots = slices.DeleteFunc(slices.Clone(roots), func(root modelWait) bool { return !free[root] })
	m.circleLeft = m.circleLeft || m.overtaker(roots, allTurns) != nil
}

// overtaker returns who is to be put ahead, if one of the roots is in a circle.
func (m *model) overtaker(roots []modelWait, turns turns) *modelRequest {
	inCircle := slices.DeleteFunc(slices.Clone(roots), func(root modelWait) bool { return !m.leads(root, root, turns) })
	i := slices.IndexFunc(m.waiting, func(v *modelRequest) bool { return m.mayOvertake(v, inCircle, turns) })
	if i < 0 {
		return nil
	}
	return m.waiting[i]
}

func (m *model) mayOvertake(v *modelRequest, roots []modelWait, turns turns) bool {
	behind := func(p *place) bool { return !p.ahead }
	return modelOwners[v.parts[0].user] != noOwner && slices.ContainsFunc(m.placesOf(v), behind) &&
		slices.ContainsFunc(roots, func(root modelWait) bool { return m.leads(root, whole(v), turns) }) &&
		m.goesOn(whole(v), m.free(turns), noTurns) && m.leads(whole(v), whole(v), turns)
}

// end ends the wait of r, if it waits, for the given reason.
func (m *model) end(r *modelRequest, reason error) {
	if !slices.Contains(m.waiting, r) {
		return
	}
	m.leave(r, false)
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
	gate   *rwlock.Lock
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
func runSchedule(t *testing.T, f family, schedule []byte) {
	synctest.Test(t, func(t *testing.T) {
		e := &execution{
			t: t, start: time.Now(), table: rwlock.NewTable(),
			pool: rwlock.NewLock("3", modelSlots), gate: rwlock.NewGate("4"), model: model{family: f},
		}
		for i, parent := range f {
			if parent != noOwner {
				e.owners[i].Within(&e.owners[parent])
			}
		}
		for user := range modelUsers {
			for lock := range modelLocks {
				h := &e.holds[user][lock]
				h.Label = rwlock.Tagged(fmt.Sprint(user))
				if o := modelOwners[user]; o != noOwner {
					h.Owner = &e.owners[o]
				}
			}
			e.holds[user][modelPool].With = &e.holds[user][modelGate]
			e.holds[user][modelGate].With = &e.holds[user][0]
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
		expectIdle(t, e.gate)
		for i := range e.owners {
			expectAwaited(t, &e.owners[i], 0)
		}
	})
}

// A step is two bytes: the operation (3 bits), the user (3 bits) and the kind (2 bits) in
// the first, what is asked in the second: lock (2 bits), mode (1), timeout (2), and, after
// one that is unused, whether to ask for a gate (1): for a key, besides and exclusive (1) or
// in the same mode; for the pool, instead.
const (
	opAcquire    = 0
	opAcquireAll = 2 // the second byte: a bit for each key to ask for (the fourth is unused), modes (1), the gate and its mode (2), timeout (1)
	opRelease    = 4 // the second byte: lock (2 bits), for the pool, whether it is the gate (1), to whom to move (3), whether to (2)
	opCancel     = 6
	opSleep      = 7 // the second byte: milliseconds (6 bits)

	asRows, asTx, asSection = 1 << 6, 2 << 6, 3 << 6

	askR, askW     = 0 << 2, 1 << 2
	hasty, patient = 1 << 3, 3 << 3
	atTheGate      = 1 << 6
	onlyTheGate    = 1<<6 | modelPool
	releaseGate    = 1<<2 | modelPool
)

func (e *execution) step(op, arg byte) {
	e.sleep(time.Millisecond)
	user := int(op>>3) % modelUsers
	lock, mode := int(arg&3), rwlock.Mode(arg>>2&1)
	kind := modelKinds[op>>6]
	switch op % 8 {
	case opAcquire, opAcquire + 1: // twice as often as the rarer ones
		if lock == modelPool && arg&atTheGate == 0 {
			mode = shared
		}
		parts := []part{{user, lock, mode, kind, modelGroups[user]}}
		gated := arg&atTheGate != 0 && lock != modelPool
		if gated {
			parts = append(parts, part{user, modelGate, max(mode, rwlock.Mode(arg>>7)), kind, 0})
		} else if arg&atTheGate != 0 {
			parts[0].lock = modelGate
		}
		e.acquire(user, modelTimeouts[arg>>3&3], gated, parts...)
	case opAcquireAll, opAcquireAll + 1:
		var parts []part
		for l := range modelPool {
			if arg>>l&1 != 0 {
				parts = append(parts, part{user, l, rwlock.Mode((int(arg>>4) + l) & 1), kind, 0})
			}
		}
		if arg>>5&1 != 0 {
			parts = append(parts, part{user, modelGate, rwlock.Mode(arg >> 6 & 1), kind, 0})
		}
		e.acquire(user, modelTimeouts[2+arg>>7], false, parts...)
	case opRelease, opRelease + 1:
		if arg&releaseGate == releaseGate {
			lock = modelGate
		}
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

func (e *execution) acquire(user int, timeout time.Duration, gated bool, parts ...part) {
	if linked(parts) && e.model.callWaits(user) {
		return // a call waits for one thing at a time
	}
	e.logf("user %d asks within %v for %v, gated: %v", user, timeout, parts, gated)
	ctx, cancel := context.WithCancel(e.t.Context())
	r := &execRequest{cancel: cancel, got: errWaiting}
	r.model = &modelRequest{parts: parts, deadline: time.Since(e.start) + timeout, result: &r.want, gated: gated}
	e.all = append(e.all, r)
	e.latest[user] = r
	for _, p := range parts {
		if h := &e.holds[p.user][p.lock]; !e.model.busy(p) {
			h.Kind = p.kind
		}
	}
	w := rwlock.Wait{Timeout: timeout, Self: 2 * long, Turn: fmt.Sprint(modelGroups[user])}
	go func() { r.got = e.acquireReal(ctx, w, gated, parts) }()
	synctest.Wait()
	e.model.acquire(r.model, timeout > 0)
}

func (e *execution) acquireReal(ctx context.Context, w rwlock.Wait, gated bool, parts []part) error {
	reqs := make([]rwlock.Request, len(parts))
	for i, p := range parts {
		reqs[i] = e.request(p)
	}
	switch {
	case gated:
		return rwlock.AcquireGated(ctx, w, reqs[1], reqs[0])
	case len(reqs) != 1:
		return rwlock.AcquireAll(ctx, w, reqs...)
	case reqs[0].Lock != nil:
		return reqs[0].Lock.Acquire(ctx, reqs[0].Mode, reqs[0].Hold, w)
	default:
		return e.table.Acquire(ctx, reqs[0].Key, reqs[0].Mode, reqs[0].Hold, w)
	}
}

func (e *execution) request(p part) rwlock.Request {
	r := rwlock.Request{Mode: p.mode, Hold: &e.holds[p.user][p.lock]}
	switch p.lock {
	case modelPool:
		r.Lock = e.pool
	case modelGate:
		r.Lock = e.gate
	default:
		r.Table, r.Key = e.table, fmt.Sprint(p.lock)
	}
	return r
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
	if e.model.circleLeft {
		e.fail("a circle is left that the near turns do not show")
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
	for _, i := range slices.Concat(e.table.Snapshot(), e.pool.Snapshot(), e.gate.Snapshot()) {
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
		do(opAcquireAll, 0, 0x93), do(opAcquireAll, 1, 0x96), do(opAcquireAll, 2, 0x95),
		do(opRelease, 0, 0), do(opRelease, 0, 1), do(opRelease, 1, 1), do(opRelease, 1, 2)),
	"full pool": schedule(
		do(opAcquire, 0, askR|patient|modelPool), do(opAcquire, 1, askR|patient|modelPool),
		do(opAcquire, 2, askR|patient|modelPool), do(opAcquire, 3, askR|patient|modelPool), do(opRelease, 0, modelPool)),
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
		"readers pass a writer until it is at the head of the gate": {
			do(opAcquire, 2, askW|patient|onlyTheGate), do(opAcquire, 3, askW|patient|atTheGate),
			do(opAcquire, 4, askR|patient), do(opRelease, 2, releaseGate), do(opAcquire, 0, askR|patient),
			do(opAcquire, 7, askW|patient|atTheGate|1), do(opRelease, 4, 0), do(opRelease, 7, releaseGate)},
		"section behind a writer at the gate": {
			do(opAcquire|asSection, 2, askW|patient), do(opAcquire|asTx, 3, askW|patient|onlyTheGate),
			do(opAcquire, 4, askW|patient|atTheGate), do(opAcquire, 7, askW|patient|onlyTheGate),
			do(opAcquire, 2, askW|patient|onlyTheGate), do(opRelease, 3, releaseGate)},
		"readers at the gate": {
			do(opAcquire|asRows, 2, askR|patient|atTheGate), do(opAcquire|asTx, 3, askW|patient|atTheGate|1),
			do(opAcquire, 4, askR|patient|atTheGate), do(opAcquire, 7, askW|patient|atTheGate|1),
			do(opRelease, 2, releaseGate), do(opRelease, 2, 0)},
		"behind a group that waits for oneself": {
			do(opAcquire|asSection, 2, askW|patient), do(opAcquireAll, 3, 0x83), do(opAcquire, 2, askW|patient|1)},
	} {
		seedSchedules[name] = schedule(steps...)
	}
}

// Schedules on which the locks and the model once did not agree, as the shortest that show it.
func init() {
	for name, steps := range map[string]string{
		"writer at the gate whose user another is put before":       "aadd8217515db977a3cfc6df2aa2bc2f8142",
		"writer that those who have passed it keep from the gate":   "a2ff9ae3655750744372eb81",
		"own request ahead, behind another that is not":             "a2c6528c553eebe7c2e80bf6e2e19053",
		"group behind one that has begun to wait for its owner":     "239cbb8633f6182800a0985a12f983229b08",
		"request without a wait that would be the end of a circle":  "dadec247893cd960",
		"statement whose call asks for a slot and the gate at once": "2a0d70dc2cd890bc587c9ada00b0",
		"turn in a circle, of who is ahead for the sake of kin":     "ea117ac75bd3",
		"the same, at the pool and the gate":                        "cb867a1a532a",
		"the same, of a stranger who asks for everything":           "6a1fec4ebbff5206",
	} {
		schedule, err := hex.DecodeString(steps)
		if err != nil {
			panic(err)
		}
		seedSchedules[name] = schedule
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
		t.Run(name, func(t *testing.T) {
			runSchedule(t, strangers, schedule)
			runSchedule(t, kin, schedule)
		})
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
			runSchedule(t, []family{strangers, kin}[i%2], schedule)
		})
	}
}

func FuzzSchedule(f *testing.F) {
	for _, schedule := range seedSchedules {
		f.Add(schedule, false)
		f.Add(schedule, true)
	}
	f.Fuzz(func(t *testing.T, schedule []byte, inLine bool) {
		f := strangers
		if inLine {
			f = kin
		}
		runSchedule(t, f, schedule[:min(len(schedule), 400)])
	})
}
