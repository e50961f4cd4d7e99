package tenants

import (
	"context"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// Bar keeps all from the database of a key but those who use it already, until end is called: whoever else wants it waits, as for one who opens
// it, and then opens it anew. When Bar returns nobody is closing one of that key. If it was open, the caller has it in use; else e is nil.
func (s *Set[K, D]) Bar(ctx context.Context, key K, owner *rwlock.Owner, w rwlock.Wait) (e *Entry[K, D], end func(), err error) {
	until := time.Now().Add(w.Timeout)
	for {
		bar, there, err := s.bar(key)
		if err != nil {
			return nil, nil, err
		}
		if bar != nil {
			return s.awaitEnding(ctx, bar, there, w.Closed, until)
		}
		w.Timeout = time.Until(until)
		err = s.await(ctx, there, owner, w)
		opened := isDone(there.ready)
		if s.Leave(there); !opened {
			return nil, nil, err
		}
	}
}

// bar puts an entry that is never opened in the place of the one that is there. If that one is just being opened it returns no bar. The caller uses both.
func (s *Set[K, D]) bar(key K) (bar, there *Entry[K, D], err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, ErrClosed
	}
	if there = s.byKey[key]; there != nil {
		s.use(there)
		if !there.open {
			return nil, there, nil
		}
		s.unlist(there)
	}
	bar = &Entry[K, D]{Key: key, ready: make(chan struct{}), refs: 1, listed: true, keep: true}
	s.byKey[key] = bar
	return bar, there, nil
}

func (s *Set[K, D]) awaitEnding(ctx context.Context, bar, there *Entry[K, D], closed <-chan struct{}, until time.Time) (e *Entry[K, D], end func(), err error) {
	end = func() {
		var none D
		s.opened(bar, none, errOpenerLeft)
		s.Leave(bar)
	}
	timeout := time.NewTimer(time.Until(until))
	defer timeout.Stop()
	for gone := s.nextGone(bar.Key); gone != nil; gone = s.nextGone(bar.Key) {
		select {
		case <-gone:
			continue
		case <-ctx.Done():
			err = ctx.Err()
		case <-closed:
			err = ErrClosed
		case <-timeout.C:
			err = rwlock.ErrTimeout
		}
		end()
		if there != nil {
			s.Leave(there)
		}
		return nil, nil, err
	}
	return there, end, nil
}

// nextGone is closed when one of the key that is being closed is; nil if none is.
func (s *Set[K, D]) nextGone(key K) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ending[key]) == 0 {
		return nil
	}
	e := s.ending[key][0]
	if e.gone == nil {
		e.gone = make(chan struct{})
	}
	return e.gone
}

func isDone(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
