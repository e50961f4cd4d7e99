package tenants

import (
	"slices"
	"sync"
	"time"
)

// Leave ends the use of a database that Get or Take has returned.
func (s *Set[K, D]) Leave(e *Entry[K, D]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.refs--; e.refs > 0 || !e.open {
		return
	}
	if !e.keep || !e.listed || s.closed || s.cfg.Unused <= 0 {
		s.close(e)
		return
	}
	e.since = s.round
	s.unused.append(e)
	s.tick()
	if s.wanting > 0 {
		s.makeRoom()
	}
	if most := s.cfg.MaxUnused; most > 0 && s.unused.len > most {
		s.evict(s.unused.first)
	}
}

// tick has the unused looked at when half of the time is over. mu is locked.
func (s *Set[K, D]) tick() {
	if s.ticker == nil {
		s.ticker = time.AfterFunc(s.cfg.Unused/2, s.expire)
	}
}

// expire closes what nobody has used for three ticks, of which the first was not a whole one.
func (s *Set[K, D]) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.round++
	s.hurried = false
	for e := s.unused.first; e != nil && s.round-e.since >= 3; e = s.unused.first {
		s.evict(e)
	}
	if s.ticker = nil; s.unused.first != nil {
		s.tick()
	}
}

// evict closes one that nobody uses. mu is locked.
func (s *Set[K, D]) evict(e *Entry[K, D]) {
	s.unused.remove(e)
	s.counts.Evicted++
	s.close(e)
}

// close closes one that nobody uses and nobody finds any more. mu is locked.
func (s *Set[K, D]) close(e *Entry[K, D]) {
	s.unlist(e)
	e.open = false
	s.counts.Open--
	s.ending[e.Key] = append(s.ending[e.Key], e)
	s.leaving++
	go func() {
		defer s.closedOne(e) // also if that ends the goroutine
		s.contain(func() { e.On.Close() })
	}()
}

func (s *Set[K, D]) closedOne(e *Entry[K, D]) {
	s.mu.Lock()
	s.placed--
	if s.leaving--; s.leaving == 0 && s.left != nil {
		close(s.left)
		s.left = nil
	}
	if all := s.ending[e.Key]; len(all) == 1 {
		delete(s.ending, e.Key)
	} else {
		i := slices.Index(all, e)
		s.ending[e.Key] = slices.Delete(all, i, i+1)
	}
	if e.gone != nil {
		close(e.gone)
	}
	s.mu.Unlock()
	e.place.Release()
}

// unlist lets nobody find e any more. mu is locked.
func (s *Set[K, D]) unlist(e *Entry[K, D]) {
	if e.listed {
		e.listed = false
		delete(s.byKey, e.Key)
	}
}

// Close closes what is unused; the rest follows with its users, who can do nothing more with it.
func (s *Set[K, D]) Close() {
	s.mu.Lock()
	s.closed = true
	if s.ticker != nil {
		s.ticker.Stop()
		s.ticker = nil
	}
	for s.unused.first != nil {
		e := s.unused.first
		s.unused.remove(e)
		s.close(e)
	}
	var inUse []D
	for _, e := range s.byKey {
		if e.open {
			inUse = append(inUse, e.On)
		}
	}
	s.mu.Unlock()
	var refused sync.WaitGroup
	for _, on := range inUse {
		refused.Go(func() { s.contain(on.Refuse) })
	}
	refused.Wait()
}

// Wait returns when what is being closed is closed.
func (s *Set[K, D]) Wait() {
	s.mu.Lock()
	left := s.left
	if s.leaving > 0 && left == nil {
		left = make(chan struct{})
		s.left = left
	}
	s.mu.Unlock()
	if left != nil {
		<-left
	}
}
