package bytelock

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"
)

// A Lock is held until its release.
type Lock struct {
	line     *line
	mode     Mode // guarded, as what follows, by the mutex of the line's shard, whatever line that is by then
	released bool
}

// Acquire waits until it has the lock of a key. The end of the context ends the wait. Who comes first is served first
// within a process, and readers that are beside each other in the queue together.
//
// Who holds a lock of the file already, and may be waited for by AcquireAll, uses AcquireInside.
func (f *File) Acquire(ctx context.Context, k Key, m Mode) (*Lock, error) {
	return f.acquire(ctx, k, m, false)
}

// AcquireInside is Acquire for who has another lock of the file: it does not wait for AcquireAll of somebody else, which waits
// for that lock.
func (f *File) AcquireInside(ctx context.Context, k Key, m Mode) (*Lock, error) {
	return f.acquire(ctx, k, m, true)
}

// AcquireAll waits until it has the locks of all users, exclusively; but not Gate and Opening. Who has one of these itself waits for ever,
// or for its context: see AcquireAllBut.
func (f *File) AcquireAll(ctx context.Context) (*Lock, error) {
	return f.acquire(ctx, everything, Exclusive, false)
}

// TryAcquire is Acquire where that needs no wait; otherwise it returns nil, nil.
func (f *File) TryAcquire(k Key, m Mode) (*Lock, error) {
	h, w, err := f.enter(k, m, false, false)
	if w != nil {
		panic("bytelock: a try waits")
	}
	return h, err
}

func (f *File) acquire(ctx context.Context, k Key, m Mode, inside bool) (*Lock, error) {
	return f.acquireUntil(ctx, nil, nil, k, m, inside)
}

// acquireUntil also ends the wait when one of the channels says so, with ErrTimeout and ErrStopped.
func (f *File) acquireUntil(ctx context.Context, timeout <-chan time.Time, stopped <-chan struct{}, k Key, m Mode, inside bool) (*Lock, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	h, w, err := f.enter(k, m, inside, true)
	if w == nil {
		return h, err
	}
	select {
	case <-w.told:
	case <-ctx.Done():
		err = ctx.Err()
	case <-timeout:
		err = ErrTimeout
	case <-stopped:
		err = ErrStopped
	}
	if err != nil {
		if h.line.abandon(w) {
			return nil, err
		}
		<-w.told // both: then it is known
	}
	if w.err != nil {
		return nil, w.err
	}
	return h, nil
}

// enter returns the lock, or the waiter whom it will be given to; neither if nobody is to wait.
func (f *File) enter(k Key, m Mode, inside, wait bool) (*Lock, *waiter, error) {
	now := time.Now()
	if err := f.check(now); err != nil {
		return nil, nil, err
	}
	s := f.shardOf(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, ErrClosed
	}
	l := s.obtain(f, k)
	if l.enter(m, inside, now) {
		return &Lock{line: l, mode: m}, nil, nil
	}
	if !wait {
		s.reap(l)
		return nil, nil, nil
	}
	return &Lock{line: l, mode: m}, l.enqueue(m, inside), nil
}

// enqueue adds a waiter, and sends for the byte if that is to be done.
func (l *line) enqueue(m Mode, inside bool) *waiter {
	l.file.waits.Add(1)
	w := &waiter{mode: m, inside: inside, told: make(chan struct{})}
	l.queue.append(w)
	if l.state == parked && inside {
		l.state = resting
	}
	switch {
	case l.state != resting:
	case l.users == 0:
		l.send()
	default:
		l.watch()
	}
	return w
}

// abandon takes a waiter out of the queue; it returns false if it was told already.
func (l *line) abandon(w *waiter) bool {
	l.shard.mu.Lock()
	defer l.shard.mu.Unlock()
	if !w.queued {
		return false
	}
	l.leave(w)
	l.shard.reap(l)
	return true
}

// Release ends the hold. It does not wait, and a second call does nothing.
func (h *Lock) Release() {
	l := h.line
	l.shard.mu.Lock()
	defer l.shard.mu.Unlock()
	if h.released {
		return
	}
	h.released = true
	l.release(h.mode)
	l.shard.reap(l)
}

// Forget is Release, for who thinks that the end of a connection has done that: no lock belongs to one.
func (h *Lock) Forget() { h.Release() }

// TryUpgrade makes a shared hold exclusive, if it is the only one of all processes and needs no wait. It stays shared otherwise.
func (h *Lock) TryUpgrade() bool {
	l := h.line
	l.shard.mu.Lock()
	defer l.shard.mu.Unlock()
	switch {
	case h.released:
		return false
	case h.mode == Exclusive:
		return true
	case l.users > 1 || !l.raise(Exclusive):
		return false
	}
	h.mode = Exclusive
	l.writers++
	return true
}

// Join returns one more hold of a lock that this File has, beside those who have it and before all who wait: for who works for one of
// them, and so is not to wait for them. It returns nil if nobody has it; or if it is had shared and wanted exclusively, and another
// process has it too.
func (f *File) Join(k Key, m Mode) *Lock {
	s := f.shardOf(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lines[k]
	if l == nil || l.users == 0 || !l.raise(m) {
		return nil
	}
	l.use(m)
	return &Lock{line: l, mode: m}
}

// checkEvery is how often a File that is used looks whether its path still leads to it.
const checkEvery = 100 * time.Millisecond

// check returns an error if the file was replaced. What is held by then, here or by others, may not exclude each other any more, and
// a new file would not change that: so a File that has failed stays so.
func (f *File) check(now time.Time) error {
	if err := f.failed.Load(); err != nil {
		return *err
	}
	last := f.checked.Load()
	if since := now.UnixNano() - last; since >= 0 && since < int64(checkEvery) || !f.checked.CompareAndSwap(last, now.UnixNano()) {
		return nil
	}
	info, err := os.Stat(f.path)
	switch {
	case err == nil && os.SameFile(info, f.info):
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist): // it may be there: the next one looks again
		f.checked.Store(last)
		return err
	}
	err = &os.PathError{Op: "lock", Path: f.path, Err: ErrReplaced}
	f.failed.Store(&err)
	return err
}

// Err returns ErrReplaced, with the path, if that has been seen.
func (f *File) Err() error {
	if err := f.failed.Load(); err != nil {
		return *err
	}
	return nil
}
