package lockpage

import (
	"time"

	"github.com/calmdocs/dblocker"
)

// span is how far back the page shows waits.
const span = 5 * 60 // seconds

// A second counts the waits that ended in it.
type second struct {
	at        int64 // since 1970
	waits     int64
	timeouts  int64
	deadlocks int64
	time      time.Duration // of all waits
	longest   time.Duration // of one; not known without events
}

func (s *second) add(o second) {
	s.waits, s.timeouts, s.deadlocks = s.waits+o.waits, s.timeouts+o.timeouts, s.deadlocks+o.deadlocks
	s.time += o.time
	s.longest = max(s.longest, o.longest)
}

func (s *second) mean() time.Duration {
	if s.waits == 0 {
		return 0
	}
	return s.time / time.Duration(s.waits)
}

// A history is the last seconds. It is a ring: each second has its place, which the next one to come round clears.
type history [span]second

// at returns the second of a time.
func (h *history) at(t time.Time) *second {
	at := t.Unix()
	s := &h[uint64(at)%span]
	if s.at != at {
		*s = second{at: at}
	}
	return s
}

// until returns the seconds up to now, the oldest first.
func (h *history) until(now time.Time) []second {
	seconds := make([]second, span)
	for i := range seconds {
		at := now.Unix() - span + 1 + int64(i)
		seconds[i].at = at
		if s := h[uint64(at)%span]; s.at == at {
			seconds[i] = s
		}
	}
	return seconds
}

// sums puts n seconds together each time.
func sums(seconds []second, n int) (all []second) {
	for len(seconds) >= n {
		sum := second{at: seconds[0].at}
		for _, s := range seconds[:n] {
			sum.add(s)
		}
		all = append(all, sum)
		seconds = seconds[n:]
	}
	return all
}

// A Minute sums up the waits of one.
type Minute struct {
	Begin     time.Time `json:"begin"`
	Waits     int64     `json:"waits"`
	Timeouts  int64     `json:"timeouts"`
	Deadlocks int64     `json:"deadlocks"`
	Mean      string    `json:"mean"`
	Longest   string    `json:"longest,omitempty"`
}

func minutes(seconds []second) (all []Minute) {
	for _, s := range sums(seconds, 60) {
		m := Minute{Begin: time.Unix(s.at, 0), Waits: s.waits, Timeouts: s.timeouts, Deadlocks: s.deadlocks, Mean: s.mean().String()}
		if s.longest > 0 {
			m.Longest = s.longest.String()
		}
		all = append(all, m)
	}
	return all
}

// count adds what has been counted since the last look, for a handle that nobody observes.
func (d *database) count(now time.Time, st *dblocker.Statistics) {
	all := second{}
	for _, w := range []dblocker.WaitStatistics{st.Locks, st.Connections, st.Processes} {
		all.add(second{waits: w.Waits, timeouts: w.Timeouts, deadlocks: w.Deadlocks, time: w.Time})
	}
	last := d.counted
	d.counted = &all
	if last == nil || now.Sub(d.countedAt) > 15*time.Second { // what came before is of no known second
		d.countedAt = now
		return
	}
	d.countedAt = now
	d.history.at(now).add(second{
		waits: all.waits - last.waits, timeouts: all.timeouts - last.timeouts, deadlocks: all.deadlocks - last.deadlocks, time: all.time - last.time,
	})
}
