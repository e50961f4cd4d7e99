package rwlock

import (
	"cmp"
	"slices"
	"sync"
)

// The deadlock search looks from a wait that has just begun at all that it waits for,
// and ends it if it can never be granted, whoever is let pass.
//
// What can be known of this is a graph. A waiter is stuck if one hold in its way is
// stuck, or one waiter whose turn comes before; of the holders of a limited lock, if
// all are. A lasting hold is stuck if its owner is. An owner is stuck if it waits
// and all its waits are stuck. A leaf is stuck if the call is that it belongs to
// (Hold.With). What has no owner is not known to be stuck, and is not. So the search
// starts with everybody stuck and frees those who can go on, until nothing changes;
// who remains waits for ever.
//
// An owner's wait for itself shows nothing: the owner has, or will have, another
// goroutine that ends its hold, and Wait.Self bounds the wait if it has not. So own
// holds in the way of a wait are left out, and so is such a wait where it is asked
// whether the owner is stuck. (Own are those of the same owner here. One in the same line
// may be another thread of control: who waits for it is as stuck as that, and Wait.Self
// bounds the wait too.)
//
// No deadlock is reported that is not there: the search holds the mutexes of all the
// locks and owners that it looks at, at the same time, from the first look to the
// removal of the waiter that it refuses. Of those that begin to wait at once, it takes
// those who have not looked yet for free: so all goes as if they had begun to wait one
// after the other, and of those who close a cycle the last is refused, and not two.
//
// Nobody is refused for its place in a queue. Who is refused waits for a holder, whose owner
// waits for a holder, and so on. A cycle that is closed by turns is mended: see overtake.go.
//
// No deadlock is missed: of those in a cycle, one is the last to look. Then it finds the
// others waiting. They cannot have moved on, because they are stuck. Who could wait
// for the owner's line before the owner waits is counted by Owner.awaited (or marked at the
// leaf), also before the search; while nobody does, the owner's wait closes no cycle and
// there is no search. That is why a thousand waiters that hold nothing cost a thousand
// times nothing. And if they hold what is waited for, each search is small: see needTurn
// and slotNeed.
//
// A waiter can also get in the way of those who wait already: when it is put ahead of
// them, and, at a gate, with its next stage. Whoever moves it so mends the cycle that
// this closes, which can only be one of turns.
//
// An owner with several goroutines may become stuck without any of this, when
// one goroutine that could go on has ended. Therefore waits look again from time to
// time, each time that Wait.Self has passed. So does what a large search has left: see pace.
//
// Owners in one line may be one thread of control, which holds with one of them and waits
// with another; or the one may be what all requests of a program come from. So they are
// nodes of their own, and a circle through a line is no certain deadlock. It counts as one when
// it has lasted for Wait.Self: see lineWait.

// searching serializes the searches, which lock the mutexes of many owners in no
// particular order. It is locked before all other mutexes.
var searching sync.Mutex

// search is one look at the graph. The mutexes that it has locked stay locked.
type search struct {
	shards  []*shard // locked
	owners  []*Owner // locked
	nodes   []*node  // in the order of their discovery
	roots   int      // how many of them are what the search began with
	limit   int      // of nodes; if there are more, all count as free
	turns   bool     // whether turns count
	line    Wait     // says when a line counts as one thread; if Self is zero, never
	waiters map[waiting]*node
	owned   map[*Owner]*node
	slots   map[slotOf]slotNeed
}

// node is a wait or an owner. It is free if it is known that it will go on.
type node struct {
	waiting        // waiter is nil for an owner
	needs   []need // of a wait: all must be met
	self    bool   // a wait with a hold of its very owner in its way

	owner *Owner
	waits []*node // of an owner

	free    bool
	visited bool // by path
}

// waiting is a wait for all locks of a waiter; or, of a waiter of AcquireGated, for its
// turn at the gate only. Then it no longer keeps others there, be it granted or not.
type waiting struct {
	waiter *waiter
	turn   bool
}

// need is met if one of its edges leads to a free node.
type need []edge

// slotNeed is what an owner needs of the holders of a lock with a limit, or all that have
// no slot of it, which are one and the same then. So it is found once. It is nothing if
// one of the holders is known to end.
type slotNeed struct {
	need need
	self bool // all holders are the owner's own
}

type slotOf struct {
	lock  *Lock
	owner *Owner // that has a slot; else nil
}

// edge says that the waiting hold at may be granted once by is gone, which depends
// on the node to. at is nil for all who wait for a slot.
type edge struct {
	at, by *Hold
	to     *node
}

// ownerAwaited reports whether anybody may wait for lasting holds of the lines of the
// waiter's owners. (Those of others in the line let the waiter pass queues, and so get in the
// way of who waits there.)
func (w *waiter) ownerAwaited() bool {
	return slices.ContainsFunc(w.places, func(p place) bool {
		return p.hold.Owner != nil && p.hold.Owner.lineAwaited()
	})
}

// callAwaited reports whether anybody may wait for the leaves of the waiter's call. It is
// called with no mutex locked.
func (w *waiter) callAwaited() bool {
	for _, p := range w.places {
		for h := p.hold.With; h != nil; h = h.With {
			if h.isAwaited() {
				return true
			}
		}
	}
	return false
}

func (h *Hold) isAwaited() bool {
	l := h.lockShard()
	if l == nil {
		return false
	}
	defer l.shard.mu.Unlock()
	return h.noted && h.wait == nil
}

// lookForDeadlock refuses the waiter if it closes a cycle of holders, unless another in it
// gives way. If it closes one of turns besides, it sees to that. If it is not the first time, it
// does so only as far as that costs little: see pace.
func (w *waiter) lookForDeadlock(bound Wait, again bool) error {
	if again && lookingAgain.Add(1) > fewLook {
		lookingAgain.Add(-1)
		return nil
	}
	searching.Lock()
	w.looked = true
	holders, turns := noLimit, smallSearch
	if again {
		lookingAgain.Add(-1)
		holders = pace.begin()
		turns = holders
	}
	pending, err := w.endCycles(bound, holders, turns)
	if again {
		pace.end()
	}
	searching.Unlock()
	retry(pending)
	return err
}

// endCycles looks for cycles of holders and of turns in searches of so many nodes. It is called
// with searching locked, and returns the waiters to be retried.
func (w *waiter) endCycles(bound Wait, holders, turns int) (pending []*waiter, err error) {
	moved := []*waiter{w}
	for {
		s := look([]*waiter{w}, false, bound, holders)
		cycle := s.cycle(s.waiters[waiting{waiter: w}])
		if cycle == nil {
			s.unlock()
			untangle(moved, turns)
			return nil, nil
		}
		at := w.whoGivesWay(cycle)
		err := deadlockError(slices.Concat(cycle[at:], cycle[:at]), now().since(cycle[at].wait.since))
		if at == 0 {
			pending = w.withdraw(nil)
			s.unlock()
			return pending, err
		}
		pending = cycle[at].wait.refuse(err)
		s.unlock()
		moved = append(moved, retryAll(pending)...)
	}
}

// whoGivesWay returns the place in the cycle of a wait that is to be refused: of w itself, which
// is the first, unless another gives way.
func (w *waiter) whoGivesWay(cycle []*Hold) int {
	for at := 0; at < len(cycle) && !w.givesWay; at += 2 {
		if cycle[at].wait != nil && cycle[at].wait.givesWay {
			return at
		}
	}
	return 0
}

// look searches from the waiters, and returns with all locked on which the result depends,
// except the owners. Without turns, it leaves out the turns that can be given up.
// If there are more nodes than the limit, besides those of the waiters, it finds nothing.
func look(ws []*waiter, turns bool, line Wait, limit int) *search {
	var shards []*shard
	for {
		s := &search{
			shards:  shards,
			turns:   turns,
			line:    line,
			limit:   limit + 2*len(ws),
			waiters: make(map[waiting]*node),
			owned:   make(map[*Owner]*node),
			slots:   make(map[slotOf]slotNeed),
		}
		s.lockShards()
		missing := s.explore(ws)
		if missing == nil {
			s.settle()
			s.unlockOwners()
			return s
		}
		s.unlock()
		shards = append(s.shards, missing)
	}
}

func (s *search) lockShards() {
	slices.SortFunc(s.shards, func(a, b *shard) int { return cmp.Compare(a.rank, b.rank) })
	for _, sh := range s.shards {
		sh.mu.Lock()
	}
}

func (s *search) unlock() {
	for _, sh := range s.shards {
		sh.mu.Unlock()
	}
	s.unlockOwners()
}

func (s *search) unlockOwners() {
	for _, o := range s.owners {
		o.mu.Unlock()
	}
	s.owners = nil
}

// explore discovers all that the waiters, and their turns, depend on. If it needs a
// shard that somebody else has locked, it returns that one: to wait for it here, out of
// order, could be a deadlock itself.
func (s *search) explore(ws []*waiter) (missing *shard) {
	for _, w := range slices.Backward(ws) { // the later are behind the earlier: see settle
		s.waiterNode(waiting{w, false})
		s.waiterNode(waiting{w, true})
	}
	s.roots = len(s.nodes)
	for i := 0; i < len(s.nodes); i++ {
		if len(s.nodes) > s.limit {
			s.giveUp()
			return nil
		}
		n := s.nodes[i]
		if n.waiter == nil {
			s.exploreOwner(n)
			continue
		}
		for _, p := range n.waiter.places {
			if !s.tryLock(p.shard) {
				return p.shard
			}
		}
		s.exploreWaiter(n)
	}
	return nil
}

// giveUp makes the search find nothing.
func (s *search) giveUp() {
	for _, n := range s.nodes {
		n.free = true
	}
}

func (s *search) tryLock(sh *shard) bool {
	if slices.Contains(s.shards, sh) {
		return true
	}
	if !sh.mu.TryLock() {
		return false
	}
	s.shards = append(s.shards, sh)
	return true
}

func (s *search) waiterNode(w waiting) *node {
	n := s.waiters[w]
	if n == nil {
		n = &node{waiting: w}
		s.waiters[w] = n
		s.nodes = append(s.nodes, n)
	}
	return n
}

func (s *search) ownerNode(o *Owner) *node {
	n := s.owned[o]
	if n == nil {
		n = &node{owner: o}
		s.owned[o] = n
		s.nodes = append(s.nodes, n)
		// Who holds the mutex of an owner waits for nothing, so it is soon here.
		o.mu.Lock()
		s.owners = append(s.owners, o)
	}
	return n
}

// isIdle reports whether the owner waits for nothing, nor counts as one thread with others
// who may. So there is nothing to explore.
func (s *search) isIdle(o *Owner) bool {
	if s.owned[o] != nil || s.line.Self > 0 && o.hasKin.Load() {
		return false
	}
	return !o.waiting()
}

func (s *search) exploreOwner(n *node) {
	for _, w := range n.owner.waits {
		n.waits = append(n.waits, s.waiterNode(waiting{waiter: w}))
	}
}

// exploreWaiter finds what is in the way of a waiter, whose shards are locked.
func (s *search) exploreWaiter(n *node) {
	if n.free = n.waiter.done || !n.waiter.looked; n.free {
		return
	}
	for _, p := range n.waiter.places {
		if n.turn && !p.lock.isGate() {
			continue
		}
		if p.lock.shard.slots != nil {
			s.needSlot(n, p.lock, p.hold)
			continue
		}
		s.needHolders(n, p.lock, p.hold)
		s.needTurn(n, p.lock, p.hold)
	}
}

// needHolders adds what h needs of the holders of l.
func (s *search) needHolders(n *node, l *Lock, h *Hold) {
	for o := l.holders.first; o != nil; o = o.next {
		switch {
		case !l.conflict(h, o):
		case h.Owner != nil && o.Owner == h.Owner:
			n.self = true
		default:
			if to := s.holderNode(o); to != nil {
				n.needs = append(n.needs, need{edge{h, o, to}})
			}
		}
	}
}

// needSlot adds what h needs of the holders of l, whose number is limited.
func (s *search) needSlot(n *node, l *Lock, h *Hold) {
	if !l.full() {
		return
	}
	of := slotOf{lock: l}
	for o := l.holders.first; o != nil && h.Owner != nil; o = o.next {
		if o.Owner == h.Owner {
			of.owner = h.Owner
			break
		}
	}
	found, ok := s.slots[of]
	if !ok {
		found = s.slotNeed(of)
		s.slots[of] = found
	}
	n.self = n.self || found.self
	if found.need != nil {
		n.needs = append(n.needs, found.need)
	}
}

func (s *search) slotNeed(of slotOf) (n slotNeed) {
	if of.owner != nil {
		n.self = of.lock.isOnly(of.owner)
	}
	for o := of.lock.holders.first; o != nil; o = o.next {
		if of.owner != nil && o.Owner == of.owner {
			if !o.lasting() {
				return slotNeed{self: n.self} // a slot that will be free
			}
			continue
		}
		to := s.holderNode(o)
		if to == nil {
			return slotNeed{self: n.self}
		}
		n.need = append(n.need, edge{nil, o, to})
	}
	return n
}

// needTurn adds what h needs of those who came earlier: of all that are ahead, and of the
// nearest of the others. What is in the way of these is found through them, since in the
// way of an exclusive request is everybody who came before. Those who have not looked are as
// if they had not come.
//
// Most turns need not be followed, lest a search follows the whole queue. Who waits for this
// lock only, or for its turn at the gate, waits for holders of this lock, and for those
// before it, who do the same. If it is exclusive, so that all holders are in its way, it need
// not be asked for whom others wait who came before it; but if it has a hold here itself,
// these may wait for that.
func (s *search) needTurn(n *node, l *Lock, h *Hold) {
	for o := l.queue.head(); o != h && o.ahead; o = o.next {
		if o.wait.looked && l.outOfTurn(h, o) && (s.turns || o.keepsTurn(h)) {
			s.needWaiter(n, l, h, o)
		}
	}
	if !s.turns || h.mode == Exclusive && l.queue.groups == 0 && !l.hasOfLine(h.Owner) {
		return
	}
	for o := h.prev; o != nil && !o.ahead; o = o.prev {
		if !o.wait.looked || !l.outOfTurn(h, o) {
			continue
		}
		s.needWaiter(n, l, h, o)
		if o.mode == Exclusive {
			return
		}
	}
}

// hasOfLine reports whether a holder's owner is in one line with the owner.
func (l *Lock) hasOfLine(owner *Owner) bool {
	for o := l.holders.first; o != nil && owner != nil; o = o.next {
		if o.Owner.InLine(owner) {
			return true
		}
	}
	return false
}

// needWaiter adds that h needs the earlier o to be gone.
func (s *search) needWaiter(n *node, l *Lock, h, o *Hold) {
	turn := waiting{o.wait, l.isGate() && o.wait.stage != ungated}
	n.needs = append(n.needs, need{edge{h, o, s.waiterNode(turn)}})
}

// holderNode returns on what the end of the holder o depends; nil if on nothing
// that is known.
func (s *search) holderNode(o *Hold) *node {
	if o.Owner == nil || s.isIdle(o.Owner) {
		return nil
	}
	n := s.ownerNode(o.Owner)
	if o.lasting() {
		if w := s.lineWait(o); w != nil {
			return s.waiterNode(waiting{waiter: w})
		}
		return n
	}
	for _, w := range o.Owner.waits {
		if w.continues(o) {
			return s.waiterNode(waiting{waiter: w})
		}
	}
	return nil
}

// lineWait returns the wait that the owner of the lasting hold o, whose mutex is locked, is kept
// by, though it is that of another in its line. That is likely if it is the only one in
// the line, has begun after the hold and has lasted for Wait.Self, and if nothing was going
// on under the hold meanwhile. If it is not likely, it returns nil.
func (s *search) lineWait(o *Hold) *waiter {
	if s.line.Self <= 0 || s.line.Quiet == nil || !o.Owner.hasKin.Load() {
		return nil
	}
	w := s.onlyWaitInLine(o.Owner)
	if w == nil || w.since < o.since || now().since(w.since) < s.line.Self || s.line.Quiet(o.Work) < s.line.Self {
		return nil
	}
	return w
}

// onlyWaitInLine returns the one wait of those in line with the owner; nil if there are
// more, or none, or the owner waits itself.
func (s *search) onlyWaitInLine(o *Owner) *waiter {
	waits, only := len(o.waits)+o.inside, o.latest
	for p := o.parent; p != nil; p = p.parent {
		locked := s.owned[p] != nil
		if !locked {
			p.mu.Lock()
		}
		if waits += len(p.waits); len(p.waits) == 1 {
			only = p.waits[0]
		}
		if !locked {
			p.mu.Unlock()
		}
	}
	if waits != 1 || len(o.waits) > 0 {
		return nil
	}
	return only
}

// continues reports whether the waiter belongs to the same call as the leaf.
func (w *waiter) continues(leaf *Hold) bool {
	for _, p := range w.places {
		for h := p.hold.With; h != nil; h = h.With {
			if h == leaf {
				return true
			}
		}
	}
	return false
}

// settle frees all that can go on. The order makes it one pass and another to see
// that it was enough, for a chain of any length.
func (s *search) settle() {
	for changed := true; changed; {
		changed = false
		for _, n := range slices.Backward(s.nodes) {
			if !n.free && n.goesOn() {
				n.free, changed = true, true
			}
		}
	}
}

func (n *node) goesOn() bool {
	if n.waiter == nil {
		return n.ownerGoesOn()
	}
	for _, need := range n.needs {
		if !need.met() {
			return false
		}
	}
	return true
}

func (n need) met() bool {
	for _, e := range n {
		if e.to == nil || e.to.free {
			return true
		}
	}
	return false
}

// ownerGoesOn leaves out the waits of the owner for itself.
func (n *node) ownerGoesOn() bool {
	waits := false
	for _, w := range n.waits {
		switch {
		case w.self:
		case w.free:
			return true
		default:
			waits = true
		}
	}
	return !waits
}

// cycle returns a cycle through the wait, as holds that wait and holds in their way by
// turns; nil if there is none. A wait can be stuck without being in a cycle, for others
// who are; it is for them to be refused.
func (s *search) cycle(wait *node) (cycle []*Hold) {
	for _, e := range s.way(wait, wait) {
		cycle = append(cycle, e.at, e.by)
	}
	return cycle
}

// way returns the edges on a way from one wait to another; nil if there is none.
func (s *search) way(from, to *node) []edge {
	for _, n := range s.nodes {
		n.visited = false
	}
	return s.path(from, to)
}

// path is way by nodes that are not visited yet.
func (s *search) path(n, to *node) []edge {
	if n.visited {
		return nil
	}
	n.visited = true
	for _, need := range n.needs {
		if need.met() {
			continue
		}
		for _, e := range need {
			if e.at == nil {
				e.at = n.waiter.at(e.by.lock.Load())
			}
			if e.to == to || e.to.leadsTo(to) {
				return []edge{e}
			}
			if rest := s.path(e.to, to); rest != nil {
				return append([]edge{e}, rest...)
			}
		}
	}
	for _, w := range n.waits {
		if rest := s.path(w, to); rest != nil {
			return rest
		}
	}
	return nil
}

// at returns the waiter's hold at a lock for which it waits.
func (w *waiter) at(l *Lock) *Hold {
	i := slices.IndexFunc(w.places, func(p place) bool { return p.lock == l })
	return w.places[i].hold
}

// leadsTo reports whether the wait is one of those of the owner n.
func (n *node) leadsTo(wait *node) bool { return slices.Contains(n.waits, wait) }
