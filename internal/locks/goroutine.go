package locks

import (
	"bytes"
	"runtime"
	"sync/atomic"
)

// A Thread knows which goroutine made it. To ask for that costs much, and few ever want to
// know; so it is a goroutine that sleeps until it is asked: its stack names the one that
// has started it.
type Thread struct {
	ask  chan chan string // for the answer
	done <-chan struct{}

	passedOn atomic.Bool // what it has begun is in other hands
}

// thisThread returns the goroutine that calls it. It can be asked until done is closed.
func thisThread(done <-chan struct{}) *Thread {
	t := &Thread{ask: make(chan chan string), done: done}
	go t.answer()
	return t
}

func (t *Thread) answer() {
	for {
		select {
		case answer := <-t.ask:
			answer <- startedBy()
		case <-t.done:
			return
		}
	}
}

// id returns the number of the goroutine; "" if it cannot be asked any more. t may be nil.
func (t *Thread) id() string {
	if t == nil {
		return ""
	}
	answer := make(chan string, 1)
	select {
	case t.ask <- answer:
		return <-answer
	case <-t.done:
		return ""
	}
}

// startedBy returns the number of the goroutine that has started the one that calls it. It
// is the last word of the stack: "created by ... in goroutine 7", and the place.
func startedBy() string {
	var buf [4 << 10]byte
	stack := buf[:runtime.Stack(buf[:], false)]
	_, id, _ := bytes.Cut(stack, []byte("created by "))
	_, id, _ = bytes.Cut(id, []byte(" in goroutine "))
	return digits(id)
}

// currentThread returns the number of the goroutine that calls it.
func currentThread() string {
	var buf [64]byte
	stack := buf[:runtime.Stack(buf[:], false)]
	return digits(bytes.TrimPrefix(stack, []byte("goroutine ")))
}

func digits(s []byte) string {
	n := 0
	for n < len(s) && '0' <= s[n] && s[n] <= '9' {
		n++
	}
	return string(s[:n])
}
