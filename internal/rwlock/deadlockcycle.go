package rwlock

import "slices"

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
