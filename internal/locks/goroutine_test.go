package locks

import (
	"testing"
	"time"
)

// TestThread: the goroutine that has begun a section is told from others.
func TestThread(t *testing.T) {
	done := make(chan struct{})
	mine := thisThread(done)
	others := make(chan *Thread)
	go func() { others <- thisThread(done) }()
	other := <-others
	if id := mine.id(); id == "" || id != currentThread() || other.id() == "" || other.id() == id {
		t.Errorf("I am %q, and was %q; the other is %q", currentThread(), id, other.id())
	}
	close(done)
	for until := time.Now().Add(10 * time.Second); mine.id() != ""; time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("it can be asked after the end")
		}
	}
}
