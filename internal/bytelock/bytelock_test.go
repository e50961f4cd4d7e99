//go:build linux || darwin

package bytelock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestModes(t *testing.T) {
	database := newDatabase(t)
	for name, other := range map[string]*File{"of another open": open(t, database), "of the same open": nil} {
		t.Run(name, func(t *testing.T) {
			f := open(t, database)
			g := other
			if g == nil {
				g = f
			}
			h := lock(t, f, "ann", Exclusive)
			taken(t, g, "ann", Exclusive)
			taken(t, g, "ann", Shared)
			free(t, g, "bob", Exclusive)
			h.Release()
			h.Release() // harmless
			h = lock(t, f, "ann", Shared)
			taken(t, g, "ann", Exclusive)
			free(t, g, "ann", Shared)
			h.Release()
			free(t, g, "ann", Exclusive)
			idle(t, f)
		})
	}
}

// TestAllExcludesEveryUser, but not the gate.
func TestAllExcludesEveryUser(t *testing.T) {
	database := newDatabase(t)
	f, g := open(t, database), open(t, database)
	for _, other := range []*File{f, g} {
		h := lock(t, f, "ann", Shared)
		if l, err := other.TryAcquire(everything, Exclusive); l != nil || err != nil {
			t.Fatalf("all can be had beside a user (%v)", err)
		}
		h.Release()
		all := got(t)(f.AcquireAll(within(t)))
		taken(t, other, "ann", Shared)
		taken(t, other, "bob", Exclusive)
		got(t)(other.TryAcquire(Gate, Exclusive)).Release()
		all.Release()
		free(t, other, "ann", Exclusive)
	}
	idle(t, f, g)
}

// TestExclusion: in whatever mixture of modes, opens, cancelled waits and AcquireAll, a writer is alone, and nothing that it writes is lost.
func TestExclusion(t *testing.T) {
	t.Run("by threads", testExclusion)
	t.Run("by tries", func(t *testing.T) {
		blocked.Add(maxBlocked)
		defer blocked.Add(-maxBlocked)
		testExclusion(t)
	})
}

func testExclusion(t *testing.T) {
	database := newDatabase(t)
	files := []*File{open(t, database), open(t, database), open(t, database)}
	const workers, times = 4, 150
	var guarded [3]ward
	var wg sync.WaitGroup
	for i := range len(files) * workers {
		f := files[i%len(files)]
		wg.Go(func() {
			for n := range times {
				user, m := (i+n)%len(guarded), Mode(1+(i*n+n/3)%2)
				k, wards := KeyOf("", fmt.Sprint(user)), guarded[user:user+1]
				if n%25 == i {
					k, wards, m = everything, guarded[:], Exclusive
				}
				ctx, cancel := context.WithTimeout(within(t), time.Duration(n%6)*time.Duration(n%3)*500*time.Microsecond+20*time.Microsecond)
				l, err := f.acquire(ctx, k, m, n%7 == 0)
				if cancel(); err != nil {
					continue
				}
				for i := range wards {
					wards[i].use(t, m)
				}
				l.Release()
			}
		})
	}
	wg.Wait()
	for user := range guarded {
		if w := &guarded[user]; int64(w.value) != w.writes.Load() || w.value == 0 {
			t.Errorf("user %d has counted %d of %d", user, w.value, w.writes.Load())
		}
	}
	idle(t, files...)
}

// A ward is what a lock protects.
type ward struct {
	writers, readers atomic.Int32
	writes           atomic.Int64
	value            int
}

// use fails the test if a writer is not alone.
func (w *ward) use(t *testing.T, m Mode) {
	if m == Shared {
		w.readers.Add(1)
		defer w.readers.Add(-1)
		if w.writers.Load() != 0 {
			t.Error("a reader beside a writer")
		}
		spin(20 * time.Microsecond)
		return
	}
	defer w.writers.Add(-1)
	if w.writers.Add(1) != 1 || w.readers.Load() != 0 {
		t.Error("a writer is not alone")
	}
	addUnseen(&w.value)
	w.writes.Add(1)
}

// addUnseen adds one, slowly, where the race detector does not look: it sees no lock of the kernel.
//
//go:norace
func addUnseen(n *int) {
	was := *n
	spin(20 * time.Microsecond)
	*n = was + 1
}

// TestTryUpgrade: a reader that is alone becomes a writer in place, and nobody else gets in between.
func TestTryUpgrade(t *testing.T) {
	database := newDatabase(t)
	f, g := open(t, database), open(t, database)
	for _, other := range []*File{f, g} {
		h, beside := lock(t, f, "ann", Shared), lock(t, other, "ann", Shared)
		if h.TryUpgrade() {
			t.Error("a reader beside another has become a writer")
		}
		taken(t, other, "ann", Exclusive)
		beside.Release()
		if !h.TryUpgrade() {
			t.Error("a reader that is alone has not become a writer")
		}
		taken(t, other, "ann", Shared)
		h.Release()
		if h.TryUpgrade() {
			t.Error("a lock that was released is one again")
		}
		free(t, other, "ann", Exclusive)
	}
	idle(t, f, g)
}

// TestFirstComeFirstServed, within a process; readers together.
func TestFirstComeFirstServed(t *testing.T) {
	f := open(t, newDatabase(t))
	k := KeyOf("", "ann")
	h := lock(t, f, "ann", Exclusive)
	var order []<-chan answer
	for i, m := range []Mode{Exclusive, Shared, Shared, Exclusive, Shared} {
		order = append(order, later(within(t), f, k, m))
		eventually(t, "it waits", func() bool { return queued(f, k) == i+1 })
	}
	h.Release()
	h = receive(t, order[0])
	h.Release()
	a, b := receive(t, order[1]), receive(t, order[2])
	taken(t, f, "ann", Shared) // past a writer
	a.Release()
	select {
	case <-order[3]:
		t.Fatal("a writer beside a reader")
	default:
	}
	b.Release()
	receive(t, order[3]).Release()
	receive(t, order[4]).Release()
	idle(t, f)
}

// TestWaitsEnd with their contexts, and with Close.
func TestWaitsEnd(t *testing.T) {
	database := newDatabase(t)
	f, g := open(t, database), open(t, database)
	k := KeyOf("", "ann")
	ctx, cancel := context.WithCancel(context.Background())
	h := lock(t, f, "ann", Exclusive)
	c := later(ctx, g, k, Shared)
	eventually(t, "it waits", func() bool { return stateOf(g, k) == atLock })
	cancel()
	if a := <-c; !errors.Is(a.err, context.Canceled) {
		t.Errorf("a wait whose context was cancelled ended with %v", a.err)
	}
	if _, err := g.Acquire(ctx, KeyOf("", "bob"), Shared); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that was cancelled: %v", err)
	}
	bob := lock(t, f, "bob", Exclusive)
	waits := []<-chan answer{later(within(t), g, k, Exclusive), later(within(t), g, k, Shared), later(within(t), g, everything, Exclusive)}
	eventually(t, "they wait", func() bool { return queued(g, k) == 2 && queued(g, everything) == 1 })
	g.Close()
	g.Close() // harmless
	for _, c := range waits {
		if a := <-c; !errors.Is(a.err, ErrClosed) {
			t.Errorf("a wait at a file that was closed ended with %v", a.err)
		}
	}
	if _, err := g.Acquire(within(t), KeyOf("", "bob"), Shared); !errors.Is(err, ErrClosed) {
		t.Errorf("of a file that is closed: %v", err)
	}
	bob.Release()
	h.Release()
	eventually(t, "the threads have come back", func() bool { return g.refs.Load() == 0 })
	idle(t, f, g)
}

// TestLocksOutliveClose: Close takes nobody's lock away.
func TestLocksOutliveClose(t *testing.T) {
	database := newDatabase(t)
	f, g := open(t, database), open(t, database)
	h := lock(t, f, "ann", Exclusive)
	f.Close()
	taken(t, g, "ann", Shared)
	h.Release()
	free(t, g, "ann", Exclusive)
	if n := f.refs.Load(); n != 0 {
		t.Errorf("the descriptors are open after the last release (%d)", n)
	}
}

// TestNoTraceOfACancelledWait: a writer that has gone does not keep out readers, though its thread waits for those that there are.
func TestNoTraceOfACancelledWait(t *testing.T) {
	database := newDatabase(t)
	f, g := open(t, database), open(t, database)
	for _, k := range []Key{KeyOf("", "ann"), everything} {
		h := lock(t, f, "ann", Shared)
		ctx, cancel := context.WithCancel(context.Background())
		c := later(ctx, g, k, Exclusive)
		eventually(t, "it waits", func() bool { return stateOf(g, k) == atLock })
		eventually(t, "readers let a writer come first", func() bool {
			l, _ := f.TryAcquire(KeyOf("", "ann"), Shared)
			if l != nil {
				l.Release()
			}
			return l == nil
		})
		reader := later(within(t), f, KeyOf("", "ann"), Shared)
		eventually(t, "it waits", func() bool { return queued(f, KeyOf("", "ann")) == 1 })
		cancel()
		<-c
		receive(t, reader).Release()
		free(t, f, "ann", Shared)
		free(t, g, "ann", Shared)
		free(t, open(t, database), "bob", Exclusive)
		c = later(within(t), g, KeyOf("", "ann"), Exclusive) // beside the stray
		eventually(t, "it waits", func() bool { return stateOf(g, KeyOf("", "ann")) == atLock })
		h.Release()
		receive(t, c).Release()
		idle(t, f, g)
	}
}

// TestReadersAfterACancelledWriter: readers behind a writer that has gone do not wait for the readers that it waited for.
func TestReadersAfterACancelledWriter(t *testing.T) {
	database := newDatabase(t)
	f, g := open(t, database), open(t, database)
	k := KeyOf("", "ann")
	h := lock(t, f, "ann", Shared)
	ctx, cancel := context.WithCancel(context.Background())
	writer := later(ctx, g, k, Exclusive)
	eventually(t, "it waits", func() bool { return stateOf(g, k) == atLock })
	reader := later(within(t), g, k, Shared)
	eventually(t, "it waits", func() bool { return queued(g, k) == 2 })
	cancel()
	<-writer
	receive(t, reader).Release()
	h.Release()
	idle(t, f, g)
}

// TestInside: who has a lock gets another one though somebody waits for all, who waits for the first.
func TestInside(t *testing.T) {
	database := newDatabase(t)
	f, g := open(t, database), open(t, database)
	bob := KeyOf("", "bob")
	h := lock(t, f, "ann", Exclusive)
	all := later(within(t), g, everything, Exclusive)
	eventually(t, "it waits", func() bool { return stateOf(g, everything) == atLock })
	stranger := later(within(t), f, bob, Exclusive)
	eventually(t, "a stranger waits for who wants all", func() bool { return stateOf(f, bob) == parked })
	inside := later2(within(t), f, bob)
	receive(t, stranger).Release() // who was before it
	receive(t, inside).Release()
	h.Release()
	receive(t, all).Release()
	idle(t, f, g)
}

func later2(ctx context.Context, f *File, k Key) <-chan answer {
	c := make(chan answer, 1)
	go func() {
		l, err := f.AcquireInside(ctx, k, Exclusive)
		c <- answer{l, err}
	}()
	return c
}

// TestCancelledWaits: of 10,000 nothing is left, and at the most one thread has waited for all of them.
func TestCancelledWaits(t *testing.T) {
	database := newDatabase(t)
	f, g := open(t, database), open(t, database)
	k := KeyOf("", "ann")
	h := lock(t, f, "ann", Exclusive)
	for range 5 { // each is the only one, and leaves its thread behind
		ctx, cancel := context.WithCancel(context.Background())
		c := later(ctx, g, k, Exclusive)
		eventually(t, "it waits", func() bool { return stateOf(g, k) == atLock })
		cancel()
		<-c
	}
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			for n := range 200 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration((i+n)%7)*20*time.Microsecond)
				l, err := g.Acquire(ctx, k, Mode(1+n%2))
				if cancel(); err == nil {
					t.Error("two have the lock")
					l.Release()
				}
			}
		})
	}
	wg.Wait()
	if n := blocked.Load(); n > 1 {
		t.Errorf("%d threads wait for one key", n)
	}
	h.Release()
	idle(t, f, g)
	if n := blocked.Load(); n != 0 {
		t.Errorf("%d threads are left", n)
	}
}

// TestManyKeysTakeFewThreads.
func TestManyKeysTakeFewThreads(t *testing.T) {
	database := newDatabase(t)
	f, g := open(t, database), open(t, database)
	var held []*Lock
	for i := range 3 * maxBlocked {
		held = append(held, lock(t, f, fmt.Sprint(i), Exclusive))
	}
	var waits []<-chan answer
	for i := range held {
		waits = append(waits, later(within(t), g, KeyOf("", fmt.Sprint(i)), Exclusive))
	}
	eventually(t, "all are at the lock", func() bool { return inState(g, atLock) == len(held) && waitingThreads(g) >= maxBlocked })
	if n := waitingThreads(g); n != maxBlocked {
		t.Errorf("%d threads wait, want %d", n, maxBlocked)
	}
	for _, h := range held {
		h.Release()
	}
	for _, c := range waits {
		receive(t, c).Release()
	}
	idle(t, f, g)
}

// TestFailure: an error of the kernel is that of the waits, and no lock is given.
func TestFailure(t *testing.T) {
	f := open(t, newDatabase(t))
	f.keys.tries.file.Close()
	for _, k := range []Key{KeyOf("", "ann"), Gate} {
		if l, err := f.Acquire(within(t), k, Shared); l != nil || err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("without a descriptor there is a lock, or no error: %v", err)
		}
		if l, err := f.TryAcquire(k, Shared); l != nil {
			t.Errorf("without a descriptor there is a lock, and the error is %v", err)
		}
	}
}

// TestLockFileIsReplaced: a process that has another file than those that come after it says so.
func TestLockFileIsReplaced(t *testing.T) {
	for name, replace := range map[string]func(path string) error{
		"deleted":  os.Remove,
		"renamed":  func(path string) error { return os.Rename(path, path+"-old") },
		"replaced": func(path string) error { return errors.Join(os.Remove(path), os.WriteFile(path, nil, 0o600)) },
		"copied": func(path string) error {
			return errors.Join(os.WriteFile(path+"2", nil, 0o600), os.Rename(path+"2", path))
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t, newDatabase(t))
			held := lock(t, f, "ann", Exclusive)
			if err := replace(f.Path()); err != nil {
				t.Fatal(err)
			}
			eventually(t, "it is seen", func() bool {
				l, err := f.Acquire(within(t), KeyOf("", "bob"), Exclusive)
				if err == nil {
					l.Release()
				}
				return errors.Is(err, ErrReplaced)
			})
			if !errors.Is(f.Err(), ErrReplaced) {
				t.Errorf("Err is %v", f.Err())
			}
			held.Release()
			open(t, filepath.Join(filepath.Dir(f.Path()), "app.db"))
		})
	}
}

func TestKeys(t *testing.T) {
	if KeyOf("a", "bc") == KeyOf("ab", "c") || KeyOf("", "ann") == KeyOf("", "bob") {
		t.Error("two users have one key")
	}
	if k := KeyOf("x", "ann"); k != 983912088227422681 {
		t.Errorf("a user has another key than in other versions: %d", k)
	}
	f := new(File)
	for i := range 10000 {
		p := placeOf(f, KeyOf("", fmt.Sprint(i)))
		if p.lock.start < 0 || p.lock.start >= specials || p.door.start <= globalDoor || p.door.start >= doorsEnd || doorsEnd < 0 {
			t.Fatalf("bytes %+v and %+v of a user are out of their ranges", p.lock, p.door)
		}
	}
}

// waitingThreads tells for how many lines of a File a thread waits.
func waitingThreads(f *File) int { return count(f, func(l *line) bool { return l.thread }) }

func inState(f *File, is state) int { return count(f, func(l *line) bool { return l.state == is }) }

func count(f *File, is func(*line) bool) (n int) {
	for _, s := range shards(f) {
		s.mu.Lock()
		for _, l := range s.lines {
			if is(l) {
				n++
			}
		}
		s.mu.Unlock()
	}
	return n
}
