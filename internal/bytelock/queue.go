package bytelock

// A waiter is in a queue until it has been told, or has left.
type waiter struct {
	mode       Mode
	inside     bool
	told       chan struct{} // closed when it has the lock, or err
	err        error
	queued     bool
	prev, next *waiter
}

// A queue is those who wait, as they came.
type queue struct {
	first, last *waiter
	inside      int // how many are
}

func (q *queue) append(w *waiter) {
	w.queued, w.prev = true, q.last
	if q.last = w; w.prev == nil {
		q.first = w
	} else {
		w.prev.next = w
	}
	if w.inside {
		q.inside++
	}
}

func (q *queue) remove(w *waiter) {
	if w.prev == nil {
		q.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		q.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.queued, w.prev, w.next = false, nil, nil
	if w.inside {
		q.inside--
	}
}
