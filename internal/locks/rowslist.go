package locks

import (
	"sync"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// A RowsHold is the hold of open rows, which may make way for others: its Work, a [rwlock.Yielder].
type RowsHold struct {
	Hold
	prev, next *RowsHold // in list, which guards them
	list       *RowsList // nil if it is in none
}

// Unlist takes the hold off the list that it is in. It does nothing the second time.
func (h *RowsHold) Unlist() {
	switch {
	case h.list == nil:
	case h.Owner != nil:
		h.Owner.remove(h)
	default:
		h.list.remove(h)
	}
}

// A RowsList is a list of the holds of open rows, linked through themselves.
type RowsList struct {
	mu    sync.Mutex // guards first, and the links of the elements
	first *RowsHold
}

func (l *RowsList) empty() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first == nil
}

// Add adds a hold, which is in no list.
func (l *RowsList) Add(h *RowsHold) {
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
func (l *RowsList) remove(h *RowsHold) {
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
func (l *RowsList) AskIn(after time.Duration) (stop func() bool) {
	if l.empty() {
		return func() bool { return false }
	}
	return time.AfterFunc(after, func() {
		for _, h := range l.which(func(*RowsHold) bool { return true }) {
			go h.Lock.Work.(rwlock.Yielder).Yield()
		}
	}).Stop
}

// which returns those of the holds for which is reports true.
func (l *RowsList) which(is func(*RowsHold) bool) (found []*RowsHold) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for h := l.first; h != nil; h = h.next {
		if is(h) {
			found = append(found, h)
		}
	}
	return found
}
