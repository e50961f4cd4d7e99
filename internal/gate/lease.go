package gate

import (
	"sync"
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
}

// Lease takes the gate, which p has alone, and keeps it for p until Resume, for that time at most.
func (p *Place) Lease(most time.Duration) {
	g := p.asked
	l := &g.lease
	l.mu.Lock()
	defer l.mu.Unlock()
	l.place.Describe(nil, rwlock.Leaf, "that is kept for a transaction which begins", nil)
	p.Move(&l.place)
	l.lessee, l.until = p, time.Now().Add(most)
	if l.timer == nil {
		l.timer = time.AfterFunc(most, l.lapse)
	} else {
		l.timer.Reset(most)
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
	l.timer.Stop()
	l.lessee = nil
	l.place.Move(p)
	return true
}

// lapse is called by the timer. That may have been set again since.
func (l *lease) lapse() {
	var over Place
	l.mu.Lock()
	if l.lessee != nil && !time.Now().Before(l.until) {
		l.lessee = nil
		l.place.Move(&over)
	}
	l.mu.Unlock()
	over.Leave()
}
