// Package events hands what has happened to a function of the program, which may take its time over it.
package events

import "sync"

// Most is how many events wait for a function at most. With more, those that come are dropped, and counted.
const Most = 8192

// A Queue hands events to one function, one at a time and in the order in which they came, on a goroutine of its
// own, which runs while there are any. So whoever puts one in waits for nobody, whatever the function does: Put may be
// called with any mutex locked. The function is called with none.
type Queue[E any] struct {
	f        func(e E, dropped int64) // dropped are those before it that were
	panicked func(p any)              // is told of the first panic of f
	behind   func()                   // is told of the first event that is dropped, on a goroutine of its own

	mu      sync.Mutex // guards what follows; nothing is called under it
	coming  []item[E]
	dropped int64 // since the last that came in
	late    bool  // behind was told
	running bool  // there is a goroutine, which alone has what stands below

	taken []item[E]
	next  int // of them
	told  bool
}

type item[E any] struct {
	event   E
	dropped int64
}

// New returns one for f. If that panics, panicked is told, and if it does not keep up, behind, each once for all times.
func New[E any](f func(e E, dropped int64), panicked func(p any), behind func()) *Queue[E] {
	return &Queue[E]{f: f, panicked: panicked, behind: behind}
}

// Put puts an event in.
func (q *Queue[E]) Put(e E) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.coming) >= Most {
		q.dropped++
		if !q.late {
			q.late = true
			go q.behind()
		}
		return
	}
	q.coming = append(q.coming, item[E]{e, q.dropped})
	q.dropped = 0
	if !q.running {
		q.running = true
		go q.run()
	}
}

// run hands on what there is. If f ends the goroutine, another goes on.
func (q *Queue[E]) run() {
	done := false
	defer func() {
		if !done {
			go q.run()
		}
	}()
	for q.take() {
		for q.next < len(q.taken) {
			e := &q.taken[q.next]
			q.next++
			q.call(e)
			*e = item[E]{} // keeps no context alive
		}
	}
	done = true
}

// take takes what has come, when all is handed on that was taken before. It reports false if there is nothing: then the goroutine ends.
func (q *Queue[E]) take() bool {
	if q.next < len(q.taken) {
		return true
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.taken, q.coming, q.next = q.coming, q.taken[:0], 0
	q.running = len(q.taken) > 0
	if !q.running {
		q.taken, q.coming = nil, nil
	}
	return q.running
}

func (q *Queue[E]) call(e *item[E]) {
	returned := false
	defer func() {
		if returned {
			return
		}
		if p := recover(); p != nil && !q.told {
			q.told = true
			q.panicked(p)
		}
	}()
	q.f(e.event, e.dropped)
	returned = true
}
