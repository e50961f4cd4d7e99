//go:build linux || darwin

package bytelock

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// long is longer than anything takes that a test waits for.
const long = time.Minute

// newDatabase makes a file that stands for a database.
func newDatabase(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "app.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t testing.TB, database string) *File {
	t.Helper()
	f, err := Open(database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// within returns a context that ends when a test has failed.
func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), long)
	t.Cleanup(cancel)
	return ctx
}

func lock(t testing.TB, f *File, user string, m Mode) *Lock {
	t.Helper()
	return got(t)(f.Acquire(within(t), KeyOf("", user), m))
}

// got fails the test if there is no lock.
func got(t testing.TB) func(*Lock, error) *Lock {
	return func(l *Lock, err error) *Lock {
		t.Helper()
		if err != nil || l == nil {
			t.Fatalf("got the lock %v, with the error %v", l, err)
		}
		return l
	}
}

// free fails the test unless a lock can be had at once.
func free(t testing.TB, f *File, user string, m Mode) {
	t.Helper()
	l, err := f.TryAcquire(KeyOf("", user), m)
	if l == nil || err != nil {
		t.Fatalf("%s is not to be had in the mode %v, want it free (%v)", user, m, err)
	}
	l.Release()
}

// taken fails the test if a lock can be had at once.
func taken(t testing.TB, f *File, user string, m Mode) {
	t.Helper()
	if l, err := f.TryAcquire(KeyOf("", user), m); l != nil || err != nil {
		t.Fatalf("%s can be had in the mode %v, want it taken (%v)", user, m, err)
	}
}

// later begins to wait for a lock.
func later(ctx context.Context, f *File, k Key, m Mode) <-chan answer {
	c := make(chan answer, 1)
	go func() {
		l, err := f.acquire(ctx, k, m, false)
		c <- answer{l, err}
	}()
	return c
}

type answer struct {
	lock *Lock
	err  error
}

func receive(t testing.TB, c <-chan answer) *Lock {
	t.Helper()
	select {
	case a := <-c:
		return got(t)(a.lock, a.err)
	case <-time.After(long):
		t.Fatal("the lock was not to be had")
		return nil
	}
}

// eventually waits until something is so.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(long); !is(); {
		if time.Now().After(end) {
			t.Fatal("never: ", what)
		}
		time.Sleep(100 * time.Microsecond)
	}
}

// queued tells how many wait in a File.
func queued(f *File, k Key) (n int) {
	s := f.shardOf(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.lines[k]; l != nil {
		for w := l.queue.first; w != nil; w = w.next {
			n++
		}
	}
	return n
}

// stateOf tells in what state a line is.
func stateOf(f *File, k Key) state {
	s := f.shardOf(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.lines[k]; l != nil {
		return l.state
	}
	return resting
}

// lines tells how many lines there are in a File, of which none is left if it is idle.
func lines(f *File) (n int) {
	for _, s := range append([]*shard{&f.everyone}, shards(f)...) {
		s.mu.Lock()
		n += len(s.lines)
		s.mu.Unlock()
	}
	return n
}

func shards(f *File) (all []*shard) {
	for i := range f.shards {
		all = append(all, &f.shards[i])
	}
	return all
}

// idle fails the test if anything is left of the Files of a database, which are all that there are, and none of them in use.
func idle(t testing.TB, files ...*File) {
	t.Helper()
	for _, f := range files {
		eventually(t, "the file has no line left, nor a thread that waits", func() bool { return lines(f) == 0 && f.refs.Load() <= 1 })
	}
	other := open(t, strings.TrimSuffix(files[0].path, suffix))
	defer other.Close()
	for _, k := range []Key{everything, Gate} {
		l, err := other.TryAcquire(k, Exclusive)
		if l == nil || err != nil {
			t.Fatalf("something in the file is still locked (%v)", err)
		}
		l.Release()
	}
}

// countAlone adds one to the number in a file, in several steps, again and again.
func countAlone(file string, times int, lock func() (unlock func(), err error)) error {
	for range times {
		unlock, err := lock()
		if err != nil {
			return err
		}
		err = addOne(file)
		unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

func addOne(file string) error {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := readNumber(f)
	if err != nil {
		return err
	}
	runtime.Gosched()
	_, err = f.WriteAt(fmt.Appendf(nil, "%010d", n+1), 0)
	return err
}

func readNumber(f *os.File) (int, error) {
	var buf [10]byte
	if _, err := f.ReadAt(buf[:], 0); err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(string(buf[:]))
	if err != nil {
		return 0, errors.New("torn: " + string(buf[:]))
	}
	return n, nil
}

// loadUntil takes and releases locks of random users until the stop, and counts them.
func loadUntil(f *File, stop <-chan struct{}, users int, seed uint64, m Mode, work time.Duration, n *atomic.Int64) {
	r := rand.New(rand.NewPCG(seed, uint64(os.Getpid())))
	for {
		select {
		case <-stop:
			return
		default:
		}
		l, err := f.Acquire(context.Background(), KeyOf("", fmt.Sprint(r.IntN(users))), m)
		if err != nil {
			panic(err)
		}
		spin(work)
		l.Release()
		n.Add(1)
	}
}

// spin works for a while.
func spin(d time.Duration) {
	for end := time.Now().Add(d); d > 0 && time.Now().Before(end); {
		runtime.Gosched()
	}
}
