package rwlock

import (
	"container/list"
	"context"
	"errors"
	"hash/maphash"
	"math"
)

// slots is what a lock with a limit has besides its holders, as if they had the slots of a
// pool. Such a lock is asked for alone, and shared: so who waits for it waits for one of the
// holders to end, be it whichever, and somebody waits only while there is no slot left.
//
// Those who wait take turns by group (Wait.Turn). A group that begins to wait has its next
// turn in the pass that comes after the present one; but if it has a slot, as it has after a turn,
// in the one after that. So it comes before those who have slots, and each of these is
// passed by what has come before their pass, and by no more.
//
// It is guarded by the shard's mutex.
type slots struct {
	limit   int32 // most holders at once; it never changes
	held    int32 // holders
	waiting int

	pass   int64             // of the last turn
	passes [3]list.List      // of groups: those of the passes from pass to pass+2, by pass%3
	groups map[uint32]*group // those that wait
}

// group is a group that waits for a slot. Within it, who came first is first.
type group struct {
	waits holdList
	pass  int64         // of its next turn
	place *list.Element // in the list of that
}

// NewLock returns a lock that is in no table. Its name appears in errors and
// snapshots only. With a limit above zero, that many shared holders at most have it
// at once, as if they were the slots of a pool. It can be asked for by Lock.Acquire only, and
// shared. To such a lock the owners of holds are strangers to themselves: a slot is a slot.
func NewLock(name string, limit int) *Lock {
	l := &Lock{shard: &shard{rank: takeRanks(1)}, name: name}
	if limit > 0 {
		l.shard.slots = &slots{limit: int32(min(limit, math.MaxInt32)), groups: make(map[uint32]*group)}
	}
	return l
}

var errSlots = errors.New("rwlock: a lock with a limit can only be asked for alone, and shared")

var turnSeed = maphash.MakeSeed()

// enterSlots is enter for a lock with a limit. A group is known by the hash of its name: if
// two groups have one, they are one.
func (l *Lock) enterSlots(ctx context.Context, mode Mode, h *Hold, w Wait) error {
	if mode != Shared {
		return errSlots
	}
	turn := uint32(maphash.String(turnSeed, w.Turn))
	l.shard.mu.Lock()
	if !h.claim(l, Shared) {
		l.shard.mu.Unlock()
		return ErrHoldInUse
	}
	h.turn = turn
	if l.full() {
		return contend(ctx, w, ungated, []place{{shard: l.shard, lock: l, hold: h}})
	}
	l.grant(h)
	l.shard.mu.Unlock()
	return nil
}

// enqueue makes h wait.
func (s *slots) enqueue(h *Hold, holders *holdList) {
	g := s.groups[h.turn]
	if g == nil {
		g = new(group)
		s.groups[h.turn] = g
		s.line(g, holders.anyOf(h.turn))
	}
	g.waits.append(h)
	s.waiting++
}

// line gives a group that is in no pass its next turn.
func (s *slots) line(g *group, hasSlot bool) {
	g.pass = s.pass + 1
	if hasSlot {
		g.pass++
	}
	g.place = s.passes[g.pass%3].PushBack(g)
}

// dequeue takes h out, and with it its group, if it was the last of that.
func (s *slots) dequeue(h *Hold) {
	g := s.groups[h.turn]
	g.waits.remove(h)
	s.waiting--
	if g.waits.empty() {
		s.passes[g.pass%3].Remove(g.place)
		delete(s.groups, h.turn)
	}
}

// next returns the group that has the next turn; nil if nobody waits.
func (s *slots) next() *group {
	for pass := s.pass; pass <= s.pass+2; pass++ {
		if e := s.passes[pass%3].Front(); e != nil {
			return e.Value.(*group)
		}
	}
	return nil
}

// first returns the hold that has the next turn; nil if nobody waits.
func (s *slots) first() *Hold {
	if g := s.next(); g != nil {
		return g.waits.first
	}
	return nil
}

// takeTurn takes out the hold that has the next turn, and its group has had one.
func (s *slots) takeTurn() *Hold {
	g := s.next()
	h := g.waits.first
	s.pass = g.pass
	s.dequeue(h)
	if !g.waits.empty() {
		s.passes[g.pass%3].Remove(g.place)
		s.line(g, true)
	}
	return h
}

// wakeSlots grants what slots there are to those who have the next turns.
func (l *Lock) wakeSlots(s *slots) {
	for s.waiting > 0 && s.held < s.limit {
		h := s.takeTurn()
		w := h.wait
		h.wait = nil
		l.grant(h)
		w.finish()
	}
}

// inTurn calls f for those who wait, in the order in which they would have their turns if
// nobody else came.
func (s *slots) inTurn(f func(*Hold)) {
	var passes [3][]*Hold // the first of each group, or what is left of it
	for i := range passes {
		for e := s.passes[i].Front(); e != nil; e = e.Next() {
			passes[i] = append(passes[i], e.Value.(*group).waits.first)
		}
	}
	pass := s.pass
	for range s.waiting {
		for len(passes[pass%3]) == 0 {
			pass++
		}
		h := passes[pass%3][0]
		passes[pass%3] = passes[pass%3][1:]
		f(h)
		if h.next != nil {
			passes[(pass+2)%3] = append(passes[(pass+2)%3], h.next)
		}
	}
}

// anyOf reports whether a hold of the list is of the group.
func (q *holdList) anyOf(turn uint32) bool {
	for h := q.first; h != nil; h = h.next {
		if h.turn == turn {
			return true
		}
	}
	return false
}
