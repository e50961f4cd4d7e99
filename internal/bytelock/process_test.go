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
	"syscall"
	"testing"
	"time"
)

const processes = 3

// TestProcessesLoseNothing of what they count in a file.
func TestProcessesLoseNothing(t *testing.T) {
	const times = 200
	if n := countByProcesses(t, times, "ann"); n != processes*times {
		t.Errorf("%d processes have counted to %d, want %d", processes, n, processes*times)
	}
}

// TestProcessesWithoutLocksLose is the control of TestProcessesLoseNothing.
func TestProcessesWithoutLocksLose(t *testing.T) {
	const times = 200
	eventually(t, "without a lock something is lost", func() bool {
		return countByProcesses(t, times, "nobody") != processes*times
	})
}

// countByProcesses has processes count in a file, and returns what is there then; -1 if a number was torn.
func countByProcesses(t *testing.T, times int, user string) int {
	t.Helper()
	database := newDatabase(t)
	file := filepath.Join(filepath.Dir(database), "count")
	if err := os.WriteFile(file, []byte("0000000000"), 0o600); err != nil {
		t.Fatal(err)
	}
	var all []*process
	for range processes {
		all = append(all, startProcess(t, database))
	}
	for _, p := range all {
		p.begin("count", file, times, user)
	}
	torn := false
	for _, p := range all {
		torn = !p.out.Scan() || p.out.Text() != "ok" || torn
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, err := readNumber(f)
	if torn || err != nil {
		return -1
	}
	return n
}

// TestNobodyStarves: a lock is to be had while another process has a run of holds that never ends by itself.
func TestNobodyStarves(t *testing.T) {
	for _, load := range []Mode{Shared, Exclusive} {
		for _, m := range []Mode{Shared, Exclusive} {
			t.Run(fmt.Sprintf("%v beside %v", m, load), func(t *testing.T) {
				database := newDatabase(t)
				f, p := open(t, database), startProcess(t, database)
				p.tell("load", 1, 16, load, 1000)
				for range 10 {
					lock(t, f, "0", m).Release()
				}
				p.tell("stop")
			})
		}
	}
}

// TestNobodyStarvesInAProcess: the same with both in one.
func TestNobodyStarvesInAProcess(t *testing.T) {
	f := open(t, newDatabase(t))
	for _, load := range []Mode{Shared, Exclusive} {
		stop := make(chan struct{})
		var n atomic.Int64
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() { loadUntil(f, stop, 1, uint64(i), load, time.Millisecond, &n) })
		}
		for range 10 {
			lock(t, f, "0", Shared).Release()
			lock(t, f, "0", Exclusive).Release()
		}
		close(stop)
		wg.Wait()
	}
	idle(t, f)
}

// TestAllGetsThrough the load of other processes, and they go on.
func TestAllGetsThrough(t *testing.T) {
	database := newDatabase(t)
	f := open(t, database)
	a, b := startProcess(t, database), startProcess(t, database)
	a.tell("load", 20, 8, Shared, 100)
	b.tell("load", 20, 8, Exclusive, 100)
	round := func() {
		got(t)(f.AcquireAll(within(t))).Release()
		lock(t, f, "0", Exclusive).Release()
	}
	for range 10 {
		round()
	}
	for _, p := range []*process{a, b} {
		begun := number(p.tell("done"))
		eventually(t, "users' locks are had beside who wants all", func() bool {
			round()
			return number(p.tell("done")) > begun+20
		})
	}
	a.tell("stop")
	b.tell("stop")
	idle(t, f)
}

// TestAllStarvesNobody: users' locks are to be had beside those who want all again and again.
func TestAllStarvesNobody(t *testing.T) {
	database := newDatabase(t)
	f := open(t, database)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		g := open(t, database)
		wg.Go(func() { allUntil(t, g, stop) })
	}
	for range 10 {
		lock(t, f, "ann", Shared).Release()
		lock(t, f, "ann", Exclusive).Release()
	}
	close(stop)
	wg.Wait()
	idle(t, f)
}

func allUntil(t *testing.T, f *File, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		l, err := f.AcquireAll(context.Background())
		if err != nil {
			t.Error(err)
			return
		}
		spin(200 * time.Microsecond)
		l.Release()
	}
}

// TestKilledHolder: its locks are free at once.
func TestKilledHolder(t *testing.T) {
	database := newDatabase(t)
	f, p := open(t, database), startProcess(t, database)
	p.tell("lock", "ann", Exclusive)
	taken(t, f, "ann", Shared)
	ann := later(within(t), f, KeyOf("", "ann"), Shared)
	eventually(t, "it waits", func() bool { return stateOf(f, KeyOf("", "ann")) == atLock })
	p.cmd.Process.Kill()
	receive(t, ann).Release()
	idle(t, f)

	p = startProcess(t, database) // and one that waits for all, which others wait for
	ann2 := lock(t, f, "ann", Exclusive)
	p.begin("lockall")
	eventually(t, "it is at the door", func() bool { return f.keys.tries.look(span{globalDoor, 1}) })
	bob := later(within(t), f, KeyOf("", "bob"), Shared)
	eventually(t, "it waits", func() bool { return stateOf(f, KeyOf("", "bob")) == parked })
	p.cmd.Process.Kill()
	receive(t, bob).Release()
	ann2.Release()
	idle(t, f)
}

// TestStoppedHolder: a process that is stopped keeps its own lock, and no other.
func TestStoppedHolder(t *testing.T) {
	database := newDatabase(t)
	f, p := open(t, database), startProcess(t, database)
	p.tell("lock", "ann", Exclusive)
	p.cmd.Process.Signal(syscall.SIGSTOP)
	for _, k := range []Key{KeyOf("", "ann"), everything} {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		if _, err := f.acquire(ctx, k, Exclusive, false); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("beside a process that is stopped: %v", err)
		}
		cancel()
		free(t, f, "bob", Exclusive)
		free(t, open(t, database), "bob", Exclusive)
	}
	p.cmd.Process.Signal(syscall.SIGCONT)
	p.tell("unlock", "ann")
	lock(t, f, "ann", Exclusive).Release()
	idle(t, f)
}

// TestHolders: who has a lock is told, as far as the system knows.
func TestHolders(t *testing.T) {
	database := newDatabase(t)
	f, p := open(t, database), startProcess(t, database)
	ann := KeyOf("", "ann")
	if h := f.Holders(ann); len(h) != 0 {
		t.Errorf("nobody has it, but these: %v", h)
	}
	p.tell("lock", "ann", Shared)
	want := Holder{p.cmd.Process.Pid, Shared}
	if !knowsHolders {
		want.PID = 0
	}
	if h := f.Holders(ann); len(h) != 1 || h[0] != want {
		t.Errorf("it is held by %v, want %v", h, want)
	}
	if h := f.AllHolders(); len(h) != 1 || h[0] != want {
		t.Errorf("a lock is held by %v, want %v", h, want)
	}
	if h := f.Holders(KeyOf("", "bob")); len(h) != 0 {
		t.Errorf("nobody has bob's, but these: %v", h)
	}
	p.tell("unlock", "ann")
	p.tell("lockall")
	want.Mode = Exclusive
	if h := f.Holders(ann); len(h) != 1 || h[0] != want {
		t.Errorf("all are held by %v, want %v", h, want)
	}
}
