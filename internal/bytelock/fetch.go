package bytelock

import (
	"sync/atomic"
	"time"
)

// maxBlocked is how many threads of the process may wait in the kernel for a byte. The runtime of Go ends a program that has 10,000
// threads.
const maxBlocked = 128

// blocked counts them.
var blocked atomic.Int32

// send sends a fetch, or has it sent when nobody is at the global door any more. The line is resting, and has
// nothing of the byte. If one in the queue is inside, who is at the global door may wait for that one, and the line does
// not wait there.
func (l *line) send() {
	if l.queue.inside == 0 && l.atGlobalDoor() {
		l.state = parked
		l.file.global.park(l)
		return
	}
	l.sendNow()
}

func (l *line) sendNow() {
	l.state, l.fetch = atDoor, &fetch{line: l}
	go l.fetch.run()
}

// A fetch gets the byte by way of the door, in a goroutine of its own. It is the line's, or a stray: see line.
type fetch struct {
	line   *line
	mode   Mode       // of the lock that it waits for behind the door
	from   descriptor // by which it has locked what it was to lock last
	tried  bool       // it has got the lock by tries, as others might who do not need it any more: so it is not to be dismissed
	thread bool       // it is the one with a thread, of the line
}

// run takes the door, waits for the lock, leaves the door, and has the line serve who is in the queue then.
func (f *fetch) run() {
	got, err := f.get(Exclusive, f.line.door, f.line.by.tries)
	if got {
		got, err = f.behindDoor()
	}
	f.end(got, err)
}

// behindDoor returns whether it has got the lock.
func (f *fetch) behindDoor() (bool, error) {
	if !f.goOn() {
		return false, nil
	}
	return f.get(f.mode, f.line.lock, f.line.by.waits)
}

// goOn goes on from the door to the lock, in the mode that is wanted; if nobody wants it any more, it leaves the door.
func (f *fetch) goOn() bool {
	l := f.line
	l.shard.mu.Lock()
	defer l.shard.mu.Unlock()
	f.endThread()
	if l.queue.first == nil {
		l.by.tries.unlock(l.door)
		return false
	}
	l.state, f.mode = atLock, l.queue.first.mode
	return true
}

// end comes back to the line, with the lock or without.
func (f *fetch) end(got bool, err error) {
	l := f.line
	l.shard.mu.Lock()
	defer l.shard.mu.Unlock()
	defer l.shard.reap(l)
	f.endThread()
	if l.fetch != f {
		if got {
			f.from.unlock(l.lock)
		}
		l.away--
		return
	}
	if l.state == atLock {
		l.by.tries.unlock(l.door)
	}
	l.state, l.fetch = resting, nil
	switch {
	case err != nil:
		l.fail(err)
	case got:
		l.file.fetched.Add(1)
		l.begin(f.mode, f.from, time.Now())
	}
	l.serve() // also with nothing: somebody may have come since it was not wanted
}

// get locks a range as soon as that is possible: a thread waits for it through the description, unless the line or the process has too many
// already; then it is tried again and again, until it is a stray.
func (f *fetch) get(m Mode, s span, waits descriptor) (got bool, err error) {
	const longest = 8 * time.Millisecond
	for pause := 100 * time.Microsecond; ; pause = min(2*pause, longest) {
		switch next, err := f.try(m, s); next {
		case goesOn:
			f.from = f.line.by.tries
			return true, nil
		case waitsByThread:
			err := waits.wait(m, s)
			blocked.Add(-1)
			f.from = waits
			return err == nil, err
		case ends:
			return false, err
		}
		time.Sleep(pause)
	}
}

// A next is what a fetch does after a try.
type next uint8

const (
	triesAgain next = iota
	goesOn
	waitsByThread
	ends
)

// try tries it without a wait.
func (f *fetch) try(m Mode, s span) (next, error) {
	l := f.line
	l.shard.mu.Lock()
	defer l.shard.mu.Unlock()
	if l.fetch != f {
		return ends, nil
	}
	switch ok, err := l.by.tries.try(m, s); {
	case err != nil:
		return ends, err
	case ok:
		f.tried = l.state == atLock
		return goesOn, nil
	}
	if l.thread || !takeThread() {
		return triesAgain, nil
	}
	l.thread, f.thread = true, true
	return waitsByThread, nil
}

// endThread lets another fetch of the line have a thread. What this one has got by it is known to the line, or unlocked, before
// the mutex is given up: the other would find it locked by its own description.
func (f *fetch) endThread() {
	if f.thread {
		f.thread, f.line.thread = false, false
	}
}

// takeThread counts a thread that is to wait, if there may be another.
func takeThread() bool {
	if blocked.Add(1) <= maxBlocked {
		return true
	}
	blocked.Add(-1)
	return false
}
