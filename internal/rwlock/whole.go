package rwlock

import (
	"context"
	"errors"
)

// A WholeWait is one wait in parts, one after the other: of a request that gives way to others, or has them make way, and then asks
// again. Whoever waits sees one wait; so it is counted once, and told of once. It belongs to one goroutine.
type WholeWait struct {
	began stamp // of the first part that had to wait; zero if none had
	stats *WaitStats
	told  *WaitEvent // nil if nobody is told
	last  error      // of the last part that had to wait
}

// begin notes that w begins to wait. It is called with the shards locked.
func (whole *WholeWait) begin(w *waiter, stats *WaitStats) {
	if whole.began == 0 {
		whole.began, whole.stats = w.since, stats
	}
	if whole.told == nil {
		whole.told = w.tellBegun()
	}
}

// End ends the wait. err is why the caller does not have what it has waited for; nil if it has it.
func (whole *WholeWait) End(err error) {
	if whole == nil || whole.began == 0 {
		return
	}
	why := whole.last
	switch {
	case err == nil:
		why = nil
	case errors.Is(why, ErrDeadlock) && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)):
		why = err // it ended between two parts
	}
	whole.stats.count(whole.began, why)
	if whole.told != nil {
		whole.told.tellEnded(whole.began, why)
	}
	*whole = WholeWait{}
}
