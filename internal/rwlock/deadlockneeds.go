package rwlock

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
	for o := l.queue.head(); l.comesBefore(o, h) && o.ahead; o = o.next {
		if o.wait.looked && l.outOfTurn(h, o) && (s.turns || o.keepsTurn(h)) {
			s.needWaiter(n, l, h, o)
		}
	}
	if !s.turns || h.mode == Exclusive && l.queue.groups == 0 && !l.hasOfLine(h.Owner) {
		return
	}
	for o := l.lastBefore(h); o != nil && !o.ahead; o = o.prev {
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
