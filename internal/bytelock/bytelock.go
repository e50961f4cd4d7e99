// Package bytelock has locks among the processes of one host that use one SQLite database: byte ranges of a file beside it,
// locked with open-file-description locks (fcntl(2), F_OFD_SETLK). The kernel ends the locks of a process that dies.
//
// It knows no SQL and nothing of the locks within a process. Two Files on one database exclude each other, be they in one
// process or in two: each has descriptors of its own. Whoever asks twice through one File excludes itself as well.
//
// # The bytes
//
// A key has two bytes, a lock and a door. Who wants the lock and does not get it at once takes the door, waits for the
// lock, and leaves the door. So at the most one process waits at the lock, the others at the door, and a look at the door
// (F_OFD_GETLK) tells who has the lock whether anybody else wants it. Within a process the callers have a queue, and
// one of its threads goes to the door for all of them. A process that has the lock passes it on in its queue, up to
// maxRun times or for maxTime; then it looks at the door, and if somebody is there gives the lock back and queues
// behind. Shared holds are counted in the same way, so that readers of one process do not keep out a writer of another.
//
// [File.AcquireAll] locks the locks of all keys as one range. It would starve among holders of single keys: so it has a
// door too, the global one, and nobody begins a new run while somebody is there.
//
// # The thread that waits
//
// A thread that waits in the kernel cannot be called back. So a caller whose context ends only leaves the queue. If nobody is in
// it any more, the door is left at once, so that others find no trace of the wait; the thread stays, and when it has the
// lock it gives it back. There is at the most one such thread for a key, and for the global door, and of a process
// at the most maxBlocked. Who has none to wait for it looks again every few milliseconds, which is less fair.
//
// # Limits
//
// The kernel looks through all ranges that are locked in a file, by whomever: a pair of lock and unlock takes 2.5 µs with a few,
// some 15 µs with a thousand. More descriptors do not help there, since the list belongs to the file.
//
// Deadlocks of several processes are not found: waits must be bounded by their contexts.
//
// The locks are those of one host. A network file system may pass them on to its server, or may not.
package bytelock

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A Mode is how a lock is held.
type Mode uint8

const (
	none      Mode = iota
	Shared         // beside others that are shared
	Exclusive      // beside nobody
)

func (m Mode) String() string {
	switch m {
	case Shared:
		return "shared"
	case Exclusive:
		return "exclusive"
	}
	return "none"
}

const (
	maxRun  = 16                   // holds that follow each other in a process before it looks at the door
	maxTime = 2 * time.Millisecond // after which it looks in any case
)

var (
	// ErrUnsupported is the error of Open where the system has no open-file-description locks.
	ErrUnsupported = fmt.Errorf("locks among processes need open-file-description locks, which Linux and macOS have: use lock_scope=process here: %w", errors.ErrUnsupported)

	// ErrClosed is the error of what is asked of a File after Close.
	ErrClosed = errors.New("the lock file is closed")

	// ErrReplaced is the error of all that is asked of a File whose path leads to another file by now, or to none.
	ErrReplaced = errors.New("the lock file was deleted or replaced while in use, so this process and those that came later do not exclude each other: " +
		"end all processes that use the database, and leave the file in place")
)

// A File is an open lock file.
//
// It is open until Close. From then on nobody enters a queue, and those in one have been told. What is held stays held
// until its release, and a thread that waits in the kernel goes on; the descriptors are closed after the last of them, by
// which nothing of the File is locked any more.
type File struct {
	path string
	info os.FileInfo // of the file behind the descriptors

	// Locks of one description do not exclude each other: they would become one. So what must, has different ones.
	keys channel // for keys
	all  channel // for all keys as one range

	shards   [shardCount]shard
	everyone shard // of the line of AcquireAll
	global   global

	refs    atomic.Int64 // 1 until Close, and 1 for each line that is in a shard, and for a wait at the global door
	checked atomic.Int64 // when path was last looked at, in nanoseconds since the epoch
	failed  atomic.Pointer[error]

	waits, fetched atomic.Int64 // see Stats

	looking   atomic.Bool // it looks once in a while at what is awaited
	listening sync.Mutex  // guards listeners
	listeners []*listener
}

// Stats counts what was not to be had at once.
type Stats struct {
	Waits   int64 // calls that have waited, be it for another process or for another call
	Fetched int64 // times that a lock came by way of its door, which is from another process, mostly
}

// Stats returns the counts since Open.
func (f *File) Stats() Stats { return Stats{f.waits.Load(), f.fetched.Load()} }

// A channel is two descriptions. A byte is locked through one of them: through waits by a thread that waits in the kernel, and
// through tries by all others, who go on beside it when nobody needs that thread any more. Doors are only locked through tries.
type channel struct{ tries, waits descriptor }

func (c channel) close() {
	c.tries.close()
	c.waits.close()
}

const shardCount = 32

// A shard has the lines of some keys. A line is in it while it is held, waited for, or fetched.
type shard struct {
	mu     sync.Mutex // guards all here, and in the lines. What may block is not called under it; locks that need no wait are.
	lines  map[Key]*line
	spare  *line // one that is in no map
	closed bool

	looked time.Time // when somebody has looked at doors, to take a byte
}

// looks tells whether who takes a byte is to look at the doors: not as long as a run may last after the last who did; but some do, at random.
// Else those could be out of luck who wait for one of several bytes.
func (s *shard) looks(now time.Time) bool {
	if since := now.Sub(s.looked); since >= 0 && since < maxTime && rand.Uint32N(maxRun) > 0 {
		return false
	}
	s.looked = now
	return true
}

// Path returns where the lock file is.
func (f *File) Path() string { return f.path }

// Close ends all waits with ErrClosed. It does not wait for those who hold a lock: that lasts until they release it.
func (f *File) Close() {
	if f.everyone.close() {
		for i := range f.shards {
			f.shards[i].close()
		}
		f.unref()
	}
}

// close tells those who wait. It returns false if it was called before.
func (s *shard) close() (first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.closed = true
	for _, l := range s.lines {
		l.fail(ErrClosed)
	}
	return true
}

// unref closes the descriptors with the last reference. There is none to be made after that: each is made from one that
// exists, or in a shard that is not closed.
func (f *File) unref() {
	if f.refs.Add(-1) == 0 {
		f.keys.close()
		f.all.close()
	}
}

// shardOf returns the shard of a key.
func (f *File) shardOf(k Key) *shard {
	if k == everything {
		return &f.everyone
	}
	return &f.shards[uint64(k)%shardCount]
}

// obtain returns the line of a key, which it makes if there is none. The caller has mu, and calls reap before it gives it up.
func (s *shard) obtain(f *File, k Key) *line {
	if l := s.lines[k]; l != nil {
		return l
	}
	l := s.spare
	if s.spare = nil; l == nil {
		l = &line{file: f, shard: s}
	}
	if s.lines == nil {
		s.lines = make(map[Key]*line)
	}
	l.place = placeOf(f, k)
	s.lines[k] = l
	f.refs.Add(1)
	return l
}

// reap takes out a line that nobody needs. The caller has mu.
func (s *shard) reap(l *line) {
	if l.users > 0 || l.state != resting || l.away > 0 || l.queue.first != nil {
		return
	}
	delete(s.lines, l.key)
	s.spare = l
	l.file.unref()
}
