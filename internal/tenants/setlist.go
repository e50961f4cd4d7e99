package tenants

// A list is one of entries, which nobody uses.
type list[K comparable, D Database] struct {
	first, last *Entry[K, D]
	len         int
}

func (l *list[K, D]) append(e *Entry[K, D]) {
	if e.prev = l.last; l.last != nil {
		l.last.next = e
	} else {
		l.first = e
	}
	l.last = e
	l.len++
}

// remove takes e out, if it is in.
func (l *list[K, D]) remove(e *Entry[K, D]) {
	if e.prev == nil && l.first != e {
		return
	}
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		l.first = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		l.last = e.prev
	}
	e.prev, e.next = nil, nil
	l.len--
}
