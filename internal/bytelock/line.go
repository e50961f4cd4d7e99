package bytelock

import "time"

// A line is the lock of a key in this File: those who have it, and those who wait.
//
// have is what the File has of the lock's byte, and users are the holds that this is for:
//
//	have       users
//	none       0
//	Shared     1 or more, each shared
//	Exclusive  1, and those that have joined it; 1 or more of them are exclusive
//
// With no users it has nothing, but within a function that changes both. So nobody keeps a byte that nobody uses.
//
// Who is in the queue is served by whom the state says:
//
//	state    have  served by
//	resting        the next release. There are users, and the first in the queue cannot have the lock beside them
//	parked   none  who waits at the global door, and will send a fetch
//	atDoor   none  the fetch, which waits for the door, or is about to
//	atLock   none  the fetch, which has the door and waits for the lock. The queue is not empty
//
// When the queue becomes empty in the state atLock, or only a shared lock is wanted and the fetch waits for more, it is dismissed: the door
// is left, the state is resting, and the line does not need it any more. It is a stray until it has come back. Until then there may be another fetch.
type line struct {
	place
	file  *File
	shard *shard

	have    Mode
	from    descriptor // which has it
	since   time.Time  // when it got it
	users   int
	writers int // of them that are exclusive
	queue   queue

	state  state
	fetch  *fetch // of the states atDoor and atLock
	away   int    // strays, and the watch, that are to come back
	thread bool   // a thread of a fetch or stray waits in the kernel: there is at the most one

	// A run is the holds that follow each other without the byte being given back or the door being looked at.
	run     int       // holds in it
	ends    time.Time // when to look at the door in any case
	over    bool      // somebody was there: nobody follows as long as that is so
	watched bool      // a watch looks whether it still is
}

type state uint8

const (
	resting state = iota
	parked
	atDoor
	atLock
)

// enter takes the lock if that needs no wait and nobody waits already.
func (l *line) enter(m Mode, inside bool, now time.Time) bool {
	switch {
	case l.queue.first != nil || l.state != resting:
		return false
	case l.users == 0:
		return l.take(m, inside, now)
	case l.have == Shared && m == Shared && l.follow(inside):
		l.use(m)
		return true
	}
	return false
}

// take takes the byte for the first user if it is free, and nobody waits for it.
//
// A process that has just given the byte back may go on with its run: it need not look at the doors each time.
func (l *line) take(m Mode, inside bool, now time.Time) bool {
	if l.shard.looks(now) && l.awaited(inside) {
		l.shard.looked = time.Time{} // the next one looks too
		return false
	}
	if ok, err := l.by.tries.try(m, l.lock); !ok || err != nil {
		return false
	}
	l.begin(m, l.by.tries, now)
	l.use(m)
	return true
}

// begin begins the first run with a byte.
func (l *line) begin(m Mode, from descriptor, now time.Time) {
	l.have, l.from, l.since = m, from, now
	l.file.lookLater()
	l.run, l.over, l.ends = 0, false, now.Add(maxTime)
}

// use adds a user.
func (l *line) use(m Mode) {
	l.users++
	l.run++
	if m == Exclusive {
		l.writers++
	}
}

// follow tells whether another hold may follow in this run, or begin the next one.
func (l *line) follow(inside bool) bool {
	now := time.Now()
	if !l.over && l.run < l.most && now.Before(l.ends) {
		return true
	}
	if l.over = l.awaited(inside); l.over {
		return false
	}
	l.run, l.ends = 0, now.Add(maxTime)
	return true
}

// serve gives the lock to those in the queue who can have it, one after the other. If there are no users then, it gives the
// byte back, and has it fetched again if somebody waits. It is called after each change that may have removed an
// obstacle, in the state resting.
func (l *line) serve() {
	for w := l.queue.first; w != nil && l.admits(w); w = l.queue.first {
		l.queue.remove(w)
		l.use(w.mode)
		close(w.told)
	}
	if l.users > 0 {
		l.watch()
		return
	}
	l.giveBack()
	if l.queue.first != nil {
		l.send()
	}
}

// admits tells whether the first in the queue can have the lock now, and has the byte in its mode then.
func (l *line) admits(w *waiter) bool {
	switch {
	case l.users > 0:
		return l.have == Shared && w.mode == Shared && l.follow(w.inside)
	case l.have == none || !l.follow(w.inside):
		return false
	case l.have == w.mode:
		return true
	}
	ok, err := l.from.try(w.mode, l.lock) // to exclusive, if no other process has it too; to shared, always
	if ok && err == nil {
		l.have = w.mode
		return true
	}
	return false
}

// giveBack unlocks the byte.
func (l *line) giveBack() {
	if l.have != none {
		l.from.unlock(l.lock)
		l.have = none
	}
}

// raise has the byte be in the mode at least, if no other process is in the way.
func (l *line) raise(m Mode) bool {
	if l.have < m {
		ok, err := l.from.try(m, l.lock)
		if !ok || err != nil {
			return false
		}
		l.have = m
	}
	return true
}

// release ends one hold, of that mode.
func (l *line) release(m Mode) {
	l.users--
	if m == Exclusive {
		l.writers--
	}
	if l.have == Exclusive && l.users > 0 && l.writers == 0 {
		l.from.try(Shared, l.lock) // which is always to be had
		l.have = Shared
	}
	l.serve()
}

// leave takes a waiter out of the queue, who was in the way of those behind it. A fetch that waits for more than is wanted now
// may wait for longer than that takes.
func (l *line) leave(w *waiter) {
	l.queue.remove(w)
	if l.state == atLock && (l.queue.first == nil || l.queue.first.mode < l.fetch.mode) {
		l.dismiss()
	}
	if l.state == resting {
		l.serve()
	}
}

// fail tells all who wait.
func (l *line) fail(err error) {
	for w := l.queue.first; w != nil; w = l.queue.first {
		l.queue.remove(w)
		w.err = err
		close(w.told)
	}
	l.dismiss()
}

// dismiss leaves the door, and the fetch behind it to itself.
func (l *line) dismiss() {
	if l.state == atLock && !l.fetch.tried {
		l.by.tries.unlock(l.door)
		l.fetch, l.state = nil, resting
		l.away++
	}
}
