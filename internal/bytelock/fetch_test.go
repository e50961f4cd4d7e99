//go:build linux || darwin

package bytelock

import (
	"context"
	"testing"
	"time"
)

// newFetch puts a line into a state with a fetch that the test runs step by step.
func newFetch(f *File, k Key, at state, waiting ...*waiter) *fetch {
	s := f.shardOf(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.obtain(f, k)
	l.state, l.fetch = at, &fetch{line: l, mode: Exclusive}
	for _, w := range waiting {
		l.queue.append(w)
	}
	return l.fetch
}

// TestAFetchThatHasTheLockIsNotDismissed: who comes then would find it locked by the same description, and lose it with the fetch.
func TestAFetchThatHasTheLockIsNotDismissed(t *testing.T) {
	f := open(t, newDatabase(t))
	k := KeyOf("", "ann")
	w := &waiter{mode: Exclusive, told: make(chan struct{})}
	c := newFetch(f, k, atLock, w)
	if got, err := c.get(Exclusive, c.line.lock, c.line.by.waits); !got || err != nil {
		t.Fatalf("it has not got the lock (%v)", err)
	}
	c.line.abandon(w)
	taken(t, f, "ann", Exclusive)
	c.end(true, nil)
	free(t, f, "ann", Exclusive)
	idle(t, f)
}

// TestWhoComesWhenNobodyWantsItAnyMore is served: the fetch has turned back by then, but has not come back.
func TestWhoComesWhenNobodyWantsItAnyMore(t *testing.T) {
	f := open(t, newDatabase(t))
	k := KeyOf("", "ann")
	c := newFetch(f, k, atDoor)
	if got, err := c.get(Exclusive, c.line.door, c.line.by.tries); !got || err != nil {
		t.Fatalf("it has not got the door (%v)", err)
	}
	if c.goOn() {
		t.Fatal("it goes on though nobody waits")
	}
	late := later(within(t), f, k, Exclusive)
	eventually(t, "it waits", func() bool { return queued(f, k) == 1 })
	c.end(false, nil)
	receive(t, late).Release()
	idle(t, f)
}

// TestAStrayTakesNothingFromWhoCameLater: the thread that nobody needs any more gets what it waits for, and gives it back.
func TestAStrayTakesNothingFromWhoCameLater(t *testing.T) {
	database := newDatabase(t)
	f, g := open(t, database), open(t, database)
	k := KeyOf("", "ann")
	reader := lock(t, g, "ann", Shared)
	ctx, cancel := context.WithCancel(context.Background())
	writer := later(ctx, f, k, Exclusive)
	eventually(t, "it waits", func() bool { return stateOf(f, k) == atLock && waitingThreads(f) == 1 })
	cancel()
	<-writer
	late := lock(t, f, "ann", Shared) // of the process of the stray
	reader.Release()
	for end := time.Now().Add(20 * time.Millisecond); time.Now().Before(end); {
		taken(t, g, "ann", Exclusive)
	}
	late.Release()
	idle(t, f, g)
}
