package gate

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// openings are the openings of connections to a SQLite database that go on although their
// callers, whose contexts have ended, no longer wait for them. What reads the file passes the
// gate, and so does an opening, with what its caller has of the gate. So while there is one,
// nobody gives up the gate: what a call has of it when it ends is kept until there is none.
//
// kept is empty while count is zero.
type openings struct {
	count atomic.Int32 // changed with mu locked

	mu   sync.Mutex // guards what follows
	kept []*Place
}

// openingTime is how long an opening keeps others waiting at most: a hook of the program may
// never return.
const openingTime = 5 * time.Second

var stillOpened = rwlock.Tagged("that is still being opened for a call that has ended")

// LeaveOpening is called by the caller of an opening that leaves it, before it leaves the gate. opened
// is to be called when the connection is open, and closed again. A nil gate is not a SQLite database's.
func (g *Gate) LeaveOpening() (opened func()) {
	if g == nil {
		return func() {}
	}
	l := &g.openings
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count.Add(1)
	end := sync.OnceFunc(l.end)
	t := time.AfterFunc(openingTime, end)
	return func() {
		t.Stop()
		end()
	}
}

func (l *openings) end() {
	l.mu.Lock()
	var kept []*Place
	if l.count.Add(-1) == 0 {
		kept, l.kept = l.kept, nil
	}
	l.mu.Unlock()
	for _, p := range kept {
		p.Leave()
	}
}

// keep takes over what p has of the gate, if there is an opening.
func (l *openings) keep(p *Place) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count.Load() == 0 {
		return
	}
	kept := new(Place)
	kept.Hold.Kind, kept.Hold.Label = rwlock.Leaf, stillOpened
	p.Move(kept)
	l.kept = append(l.kept, kept)
}
