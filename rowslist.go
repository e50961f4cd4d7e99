package dblocker

import (
	"sync"
	"time"
)

// A rowsList is a list of open rows that hold a lock, linked through themselves.
type rowsList struct {
	mu    sync.Mutex // guards first, and the links of the elements
	first *rows
}

func (l *rowsList) empty() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first == nil
}

func (l *rowsList) add(r *rows) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.list = l
	r.next, r.prev = l.first, nil
	if l.first != nil {
		l.first.prev = r
	}
	l.first = r
}

// remove does nothing the second time.
func (l *rowsList) remove(r *rows) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case r.prev != nil:
		r.prev.next = r.next
	case l.first == r:
		l.first = r.next
	}
	if r.next != nil {
		r.next.prev = r.prev
	}
	r.next, r.prev = nil, nil
}

// AskIn implements [gate.Rows]: it asks the rows to make way when some time has passed, unless it is stopped before.
func (l *rowsList) AskIn(after time.Duration) (stop func() bool) {
	if l.empty() {
		return func() bool { return false }
	}
	return time.AfterFunc(after, func() {
		for _, r := range l.which(func(*rows) bool { return true }) {
			go r.Yield()
		}
	}).Stop
}

// which returns those of the rows for which is reports true.
func (l *rowsList) which(is func(*rows) bool) (found []*rows) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for r := l.first; r != nil; r = r.next {
		if is(r) {
			found = append(found, r)
		}
	}
	return found
}
