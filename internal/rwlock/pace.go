package rwlock

import (
	"math"
	"sync/atomic"
	"time"
)

// A search is mostly of a few nodes. It is large only where many wait who have locks that
// others wait for, and then there may be many such searches. What has to be found when a
// wait begins, a cycle of holders, is looked for in any case. The others, for a cycle of turns
// and when a wait looks again, are given up when they come to many nodes; but now and then
// one that looks again may be of any size.
const (
	noLimit     = math.MaxInt / 2
	smallSearch = 500

	// fewLook is how many may wait for their turn to look again. Who comes when there are more
	// does so the next time.
	fewLook = 8
)

// lookingAgain is how many wait for searching to look again.
var lookingAgain atomic.Int32

// pacing keeps large searches from taking more than a small part of the time. It is
// guarded by searching.
type pacing struct{ begun, next stamp }

var pace pacing

// begin begins a search that looks again, and returns of how many nodes it may be. (A stamp that
// is far away is of another clock: that of a test.)
func (p *pacing) begin() (limit int) {
	p.begun = now()
	if wait := p.next.since(p.begun); wait > 0 && wait < time.Minute {
		return smallSearch
	}
	return noLimit
}

// end ends it.
func (p *pacing) end() {
	const oneOf = 20
	ended := now()
	if took := ended.since(p.begun); took > time.Millisecond {
		p.next = ended + stamp(oneOf*took)
	}
}
