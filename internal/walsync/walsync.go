// Package walsync lets all who commit to a SQLite file share one sync of its write-ahead log.
//
// With synchronous=FULL SQLite syncs the WAL in each commit, while it has its write lock. With NORMAL it does not, and
// a commit is on disk when the WAL has been synced after it, by whomever. Here is that sync: it belongs to no
// connection and no lock, and one serves all who have committed before it began. Nobody waits for others to come: the
// first who needs a sync has it begin, and those who come while it lasts share the next one.
//
// # Why the WAL is enough
//
// A commit is in the WAL, from where a checkpoint copies it into the database file. SQLite syncs the WAL before it
// copies (walCheckpoint), and syncs the database file before it takes the whole WAL for copied, which is before
// anybody may write over its beginning (walRestartHdr), cut it to nothing, or delete it (sqlite3WalClose, only after a
// checkpoint that has succeeded). So a commit that is not in the WAL any more is on disk in the database file;
// and one that is in the WAL is there since the last sync of the file, whose content before that cannot be lost: a WAL that
// begins anew has a new salt, and SQLite syncs its header before the first frame (sqlite3WalFrames). This needs NORMAL or
// more of all who write to the file: with OFF a checkpoint does not sync.
package walsync

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// SyncFile syncs the WAL, SyncDir the directory that it is in. Only tests change them, before any database is open, to
// see what each sync has covered, or to let one fail.
var (
	SyncFile = syncFile
	SyncDir  = syncDir
)

// A Log is the WAL of one SQLite file, with those who wait for its syncs. The zero Log is of a database without a
// file, and nobody waits there. It must not be copied.
//
// Syncs are numbered as they begin, from 1, and run one at a time. What was committed before a sync began
// is on disk when that has succeeded; what was committed later need not be, though it is in the file. So
// who has committed notes which syncs have begun by then (Mark), and is answered after one with a higher number.
//
// When a sync has failed, the kernel may have dropped what it could not write, and takes it for written: the next sync would succeed
// and say nothing. So no other is tried: all answers are that error until Restore.
type Log struct {
	file walFile

	begun atomic.Uint64 // the number of the last sync that has begun; raised with mu, before it does
	syncs atomic.Int64  // that have ended

	// failed is nil if no sync has failed, or what it was for is on disk by now. It is set with mu.
	failed atomic.Pointer[Error]

	mu      sync.Mutex // guards what follows. Nobody syncs under it.
	covered uint64     // the number of the last sync that has succeeded
	current *round     // whose sync runs, or has ended just now; nil if none
	next    *round     // of those who need a later one than that; nil if there are none, or nothing runs
}

// A round is those who share a sync.
type round struct {
	number uint64        // of the sync; set when that begins
	done   chan struct{} // closed when it has ended
	err    error         // of the sync; set before
	then   []func()      // to be called after that

	calls int  // that wait, or have waited; guarded by the mutex of the log
	told  Told // of the first of them who has one; nil if none has. Guarded likewise until the sync begins
}

// Told is told of a sync that has ended, for so many calls as had asked for it when it began. It must not wait.
type Told func(calls int, took time.Duration, err error)

// tell tells all who wait.
func (r *round) tell(err error) {
	r.err = err
	close(r.done)
	for _, f := range r.then {
		f()
	}
}

// A Mark says which syncs had begun when a commit was done.
type Mark uint64

// Mark is called when a commit is done. It returns what to wait for.
func (l *Log) Mark() Mark { return Mark(l.begun.Load()) }

// Wait returns when all that was committed before the mark was taken is on disk. The end of the context ends the wait,
// and not the sync.
func (l *Log) Wait(ctx context.Context, m Mark) error { return l.WaitTelling(ctx, m, nil) }

// WaitTelling is Wait for a call that is to be told of the sync, unless another is that has asked for it before. told may be nil.
func (l *Log) WaitTelling(ctx context.Context, m Mark, told Told) error {
	l.mu.Lock()
	r, begins, err := l.join(m, 1, told)
	l.mu.Unlock()
	switch {
	case r == nil:
		return err
	case begins && ctx.Done() == nil: // it waits in any case: then no other goroutine need be woken, nor this one
		if l.sync() {
			go l.run()
		}
	case begins:
		go l.run() // so that the caller can leave
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
	}
	select {
	case <-r.done: // both: then it is known
		return r.err
	default:
		return ctx.Err()
	}
}

// Notify has f called when Wait would return, by whichever goroutine then knows. It has a sync begin as Wait does. It is for
// so many calls, and told is as for WaitTelling.
func (l *Log) Notify(m Mark, calls int, told Told, f func()) {
	l.mu.Lock()
	r, begins, _ := l.join(m, calls, told)
	if r != nil {
		r.then = append(r.then, f)
	}
	l.mu.Unlock()
	switch {
	case r == nil:
		f()
	case begins:
		go l.run()
	}
}

// join returns the round to wait for; nil if it is known already what comes of it. If the caller begins it, the sync is to be
// made for it. The caller has mu.
func (l *Log) join(m Mark, calls int, told Told) (r *round, begins bool, err error) {
	switch {
	case l.covered > uint64(m) || !l.HasPlace():
		return nil, false, nil
	case l.failed.Load() != nil:
		return nil, false, l.failed.Load()
	case l.current != nil && l.current.number > uint64(m):
		return l.current, false, nil
	}
	if l.next == nil {
		l.next = &round{done: make(chan struct{})}
	}
	r = l.next
	r.calls += calls
	if r.told == nil {
		r.told = told
	}
	if l.current == nil {
		begins = l.begin()
	}
	return r, begins, nil
}

// begin makes the next round the current one, before its sync begins. Who comes from now on needs a later one. The caller has mu.
func (l *Log) begin() (more bool) {
	r := l.next
	l.current, l.next = r, nil
	if r != nil {
		r.number = l.begun.Add(1)
	}
	return r != nil
}

// run syncs for the current round, and for those after it as long as somebody waits: so the disk need not wait for
// one of them to be woken.
func (l *Log) run() {
	for l.sync() {
	}
}

// sync syncs for the current round, and reports whether there is another now.
func (l *Log) sync() (more bool) {
	r := l.current // which is the caller's to change; nobody joins it with something to be told any more
	if r.told == nil {
		err := l.file.sync()
		l.syncs.Add(1)
		return l.end(err)
	}
	began := time.Now()
	err := l.file.sync()
	l.syncs.Add(1)
	r.told(r.calls, time.Since(began), err)
	return l.end(err)
}

// end ends the current round, and begins the next, which a sync that has failed ends too. It reports whether there is one.
func (l *Log) end(err error) (more bool) {
	r := l.current // which is the caller's to change
	failed, isFailure := err.(*Error)
	l.mu.Lock()
	if err == nil {
		l.covered = r.number
	} else if isFailure {
		l.failed.Store(failed)
	}
	l.mu.Unlock()
	r.tell(err)
	unable, more := l.beginNext(isFailure)
	if unable != nil {
		unable.tell(failed)
	}
	return more
}

// beginNext makes the next round the current one; but after a failure it is returned, and there is no other.
func (l *Log) beginNext(afterFailure bool) (unable *round, more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if afterFailure {
		unable, l.next = l.next, nil
	}
	return unable, l.begin()
}

// Syncs returns how many syncs there were.
func (l *Log) Syncs() int64 { return l.syncs.Load() }

// Failed returns the error of a sync that has failed, if what it was for may still be lost; else nil.
func (l *Log) Failed() error {
	if failed := l.failed.Load(); failed != nil {
		return failed
	}
	return nil
}

// Restore is called when all that is in the WAL has been copied into the database file, that has been synced, and the
// WAL been cut to nothing, while nobody could write. All that began after the sync had failed, which is why there can be no later
// failure.
func (l *Log) Restore() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed.Store(nil)
}

// An Error is of a sync that has failed.
type Error struct{ Err error }

func (e *Error) Error() string { return "sync of the write-ahead log: " + e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }
