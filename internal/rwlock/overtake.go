package rwlock

import "slices"

// A cycle can be closed by a turn. Who waits for its turn after a request for several locks
// waits for all that this one waits for; and so does who waits for it after one at the
// head of a gate. If that leads back to the owner who waits for its turn, then all would
// wait for ever, though it would hurt nobody to let it pass: those whom it passes wait for
// it in any case.
//
// So a wait in a cycle that no stuck holder keeps, but only those whose turn comes before,
// is put ahead of its queues, whoever has closed the cycle. If there are several, it is
// the one that came first. There is one unless each wait in the cycle has a stuck holder in
// its way. Then they are a deadlock without any turn, and that was found before.
//
// Who is in a cycle only because an exclusive request, which waits for the same holders, has
// its turn later is none of these: the cycle is there without it, and to put it ahead would
// help nobody else. See needTurn.
//
// That is why owners that take their locks in one order are never refused, be it several
// at once: a holder in the way of a wait then has locks only that come before those that
// its owner waits for.

// untangle is for waiters that have got in the way of others, or have just begun to wait.
// As long as one of them is in a cycle, it puts somebody ahead who is in one. (It may be in
// another, to which the first leads, and which is being seen to by somebody else.) It
// is called with searching locked and no other mutex. A search that comes to more nodes than
// the limit is left to those who look again.
func untangle(ws []*waiter, limit int) {
	for {
		s := look(ws, true, Wait{}, limit)
		w := s.overtaker()
		if w == nil {
			s.unlock()
			return
		}
		pending := w.overtake()
		s.unlock()
		ws = append(append(ws, w), retryAll(pending)...)
	}
}

// overtaker returns the oldest waiter that is to be put ahead; nil if there is none.
func (s *search) overtaker() (oldest *waiter) {
	for _, root := range s.nodes[:s.roots] {
		if root.free || s.way(root, root) == nil {
			continue
		}
		for _, n := range s.nodes {
			if s.mayOvertake(n) && (oldest == nil || n.waiter.since < oldest.since) && s.way(root, n) != nil && s.way(n, n) != nil {
				oldest = n.waiter
			}
		}
	}
	return oldest
}

// mayOvertake reports whether a node is a stuck wait that it would help to be put ahead.
func (s *search) mayOvertake(n *node) bool {
	w := n.waiter
	return w != nil && !n.turn && !n.free && w.owned && s.inQueueOnly(n) &&
		slices.ContainsFunc(w.places, func(p place) bool { return !p.hold.ahead })
}

// overtake puts the waiter ahead in all its queues and grants it what it can have
// now. It returns the waiters to be retried.
func (w *waiter) overtake() []*waiter {
	for _, p := range w.places {
		p.lock.promote(p.hold)
	}
	return w.tryGrant(nil)
}

// inQueueOnly reports whether nothing keeps the wait from being granted for ever but turns
// that can be given up.
func (s *search) inQueueOnly(n *node) bool {
	return !slices.ContainsFunc(n.needs, func(need need) bool {
		return !need.met() && (need[0].by.wait == nil || need[0].by.keepsTurn(need[0].at))
	})
}
