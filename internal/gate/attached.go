package gate

import (
	"github.com/calmdocs/dblocker/internal/bytelock"
	"github.com/calmdocs/dblocker/internal/rwlock"
)

// Attached is what an operation has of the gates of attached files.
type Attached struct {
	gates  []*Gate
	passed []bool // as a reader that passes by
	holds  []rwlock.Hold
	among  []*bytelock.Lock // of those, among processes; nil if they do not reach
	mode   rwlock.Mode
}

// AskAttached asks for the gates of attached files in mode, and counts the operation as a reader where it passes
// by. It returns nil if it does so everywhere.
func (p *Place) AskAttached(gates []*Gate, mode rwlock.Mode) *Attached {
	a := &Attached{gates: gates, passed: make([]bool, len(gates)), holds: make([]rwlock.Hold, len(gates)), mode: mode}
	p.attached = a
	asks := false
	for i, g := range gates {
		if a.passed[i] = mode == rwlock.Shared && g.passesBy(); !a.passed[i] {
			asks = true
		}
	}
	if !asks {
		return nil
	}
	return a
}

// passesBy counts a reader that passes by, if the database lets readers.
func (g *Gate) passesBy() bool {
	g.passers.Add(1)
	if g.wal.Load() == walOn {
		return true
	}
	g.passers.Add(-1)
	return false
}

func (a *Attached) describe(like *rwlock.Hold) {
	for i := range a.holds {
		h := &a.holds[i]
		h.Owner, h.Kind, h.Label, h.Work = like.Owner, like.Kind, like.Label, like.Work
	}
}

func (a *Attached) requests() (reqs []rwlock.Request) {
	for i, g := range a.gates {
		if !a.passed[i] {
			reqs = append(reqs, rwlock.Request{Lock: g.lock, Mode: a.mode, Hold: &a.holds[i]})
		}
	}
	return reqs
}

// held tells whether any of the gates is held, as a reader or alone; a may be nil.
func (a *Attached) held() bool {
	if a == nil {
		return false
	}
	for i := range a.holds {
		if a.holds[i].Held() {
			return true
		}
	}
	return false
}

func (a *Attached) leave() {
	a.leaveAmong()
	for i, g := range a.gates {
		if a.passed[i] {
			a.passed[i] = false
			g.passers.Add(-1)
		}
		if a.mode == rwlock.Exclusive && a.holds[i].Held() {
			g.writes.Add(1)
		}
		a.holds[i].Release()
	}
}
