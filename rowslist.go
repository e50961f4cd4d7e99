package dblocker

import (
	"sync"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// A rowsHold is the hold of open rows, which may make way for others: its Work, a [rwlock.Yielder].
type rowsHold struct {
	userHold
	prev, next *rowsHold // in list, which guards them
	list       *rowsList // nil if it is in none
}

// unlist takes the hold off the list that it is in. It does nothing the second time.
func (h *rowsHold) unlist() {
	switch {
	case h.list == nil:
	case h.owner != nil:
		h.owner.remove(h)
	default:
		h.list.remove(h)
	}
}

// A rowsList is a list of the holds of open rows, linked through themselves.
type rowsList struct {
	mu    sync.Mutex // guards first, and the links of the elements
	first *rowsHold
}

func (l *rowsList) empty() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first == nil
}

func (l *rowsList) add(h *rowsHold) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h.list = l
	h.next, h.prev = l.first, nil
	if l.first != nil {
		l.first.prev = h
	}
	l.first = h
}

// remove does nothing the second time.
func (l *rowsList) remove(h *rowsHold) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case h.prev != nil:
		h.prev.next = h.next
	case l.first == h:
		l.first = h.next
	}
	if h.next != nil {
		h.next.prev = h.prev
	}
	h.next, h.prev = nil, nil
}

// AskIn implements [gate.Rows]: it asks the rows to make way when some time has passed, unless it is stopped before.
func (l *rowsList) AskIn(after time.Duration) (stop func() bool) {
	if l.empty() {
		return func() bool { return false }
	}
	return time.AfterFunc(after, func() {
		for _, h := range l.which(func(*rowsHold) bool { return true }) {
			go h.lock.Work.(rwlock.Yielder).Yield()
		}
	}).Stop
}

// which returns those of the holds for which is reports true.
func (l *rowsList) which(is func(*rowsHold) bool) (found []*rowsHold) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for h := l.first; h != nil; h = h.next {
		if is(h) {
			found = append(found, h)
		}
	}
	return found
}
