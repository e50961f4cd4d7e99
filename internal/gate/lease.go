package gate

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// A lease keeps the gate for who has had it granted before it is needed, and will need it very soon:
// a transaction that has only been asked for. It ends by itself, so whatever its owner
// does meanwhile, others wait for that time at most; and the deadlock search need not know of it.
//
// There is one for each gate: who leases it has it alone. place holds the gate while lessee is set,
// and is idle otherwise.
type lease struct {
	mu     sync.Mutex // guards what follows
	lessee *Place
	place  Place
	until  time.Time
	timer  *time.Timer
	armed  bool // the timer will call lapse; leases that end before leave it as it is

	// A lease that lapses has kept the gate from those who wait, for nothing. Where a program does
	// something else first in its transactions, most would: so after each that lapses, more and more
	// transactions go without, and after each that does not, fewer.
	pause   int          // how many go without after the next that lapses
	without atomic.Int64 // how many still do
}

// How many transactions, at least and at most, go without a lease after one has lapsed.
const leastPause, mostPause = 8, 4096

var onLease = rwlock.Tagged("that is kept for a transaction which begins")

// MayLease tells whether one who could have the gate on a lease is to try. If not, that counts as
// one who went without.
func (g *Gate) MayLease() bool {
	w := &g.lease.without
	return w.Load() <= 0 || w.Add(-1) < 0
}

// Lease takes the gate, which p has alone, and keeps it for p until Resume, for that time at most.
func (p *Place) Lease(most time.Duration) {
	g := p.asked
	l := &g.lease
	l.mu.Lock()
	defer l.mu.Unlock()
	l.place.Describe(nil, rwlock.Leaf, onLease, nil)
	p.Move(&l.place)
	l.lessee, l.until = p, time.Now().Add(most)
	if !l.armed {
		l.arm(most)
	}
}

// arm has the timer call lapse.
func (l *lease) arm(in time.Duration) {
	l.armed = true
	if l.timer == nil {
		l.timer = time.AfterFunc(in, l.lapse)
	} else {
		l.timer.Reset(in)
	}
}

// Resume gives the gate back to the place that has leased it, and reports whether the lease had
// lasted until now.
func (p *Place) Resume(g *Gate) bool {
	l := &g.lease
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lessee != p {
		return false
	}
	l.lessee = nil
	l.pause -= (l.pause + 7) / 8
	l.place.Move(p)
	return true
}

// lapse is called by the timer, which may have been set for a lease that has ended.
func (l *lease) lapse() {
	var over Place
	l.mu.Lock()
	l.armed = false
	switch left := time.Until(l.until); {
	case l.lessee == nil:
	case left > 0:
		l.arm(left)
	default:
		l.lessee = nil
		l.place.Move(&over)
		l.pause = min(max(2*l.pause, leastPause), mostPause)
		l.without.Store(int64(l.pause))
	}
	l.mu.Unlock()
	over.Leave()
}
