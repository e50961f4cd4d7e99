package rwlock

import (
	"cmp"
	"slices"
)

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
