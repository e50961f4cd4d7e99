package main

import (
	"cmp"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A worker does one operation, for one goroutine that does it again and again. In
// the tally it notes what the caller of measure cannot see.
type worker func(t *tally) error

// A tally is what one worker did.
type tally struct {
	ops, errs     int
	err           error           // the first
	took          time.Duration   // from the common start
	updates       int             // acknowledged increments of a counter
	reads, writes []time.Duration // of operations that are timed one by one
}

// A sample is what the workers of one contender did in one slice.
type sample struct {
	rate          float64 // operations per second that succeeded
	allocs        float64 // of the whole process, per operation
	reads, writes latency

	// These count the warm-up, too.
	ops, errs int // operations that succeeded, and that failed
	err       error
	updates   int // acknowledged increments of a counter
	lost      int // of those, not in the database; negative if it has more
}

// measure has the workers work side by side for about d, each at least once. A
// worker ends after the operation that it is at when the time is up. Its rate is
// over the time from the common start to its own end, so that an operation that
// takes long is neither cut off nor charged to others.
func measure(d time.Duration, workers []worker) sample {
	tallies := make([]tally, len(workers))
	var start time.Time
	begin := make(chan struct{})
	var stop atomic.Bool
	var working sync.WaitGroup
	for i, work := range workers {
		working.Go(func() {
			<-begin
			tallies[i].repeat(work, &stop)
			tallies[i].took = time.Since(start)
		})
	}
	runtime.GC()
	before := mallocs()
	time.AfterFunc(d, func() { stop.Store(true) })
	start = time.Now()
	close(begin)
	working.Wait()
	return total(tallies, mallocs()-before)
}

func (t *tally) repeat(work worker, stop *atomic.Bool) {
	for done := false; !done; done = stop.Load() {
		if err := work(t); err != nil {
			t.errs++
			t.err = cmp.Or(t.err, err)
		} else {
			t.ops++
		}
	}
}

// updated notes an increment of a counter that was acknowledged.
func (t *tally) updated(err error) error {
	if err == nil {
		t.updates++
	}
	return err
}

func total(tallies []tally, mallocs uint64) (s sample) {
	var reads, writes []time.Duration
	for _, t := range tallies {
		s.count(sample{ops: t.ops, errs: t.errs, err: t.err, updates: t.updates})
		s.rate += float64(t.ops) / t.took.Seconds()
		reads, writes = append(reads, t.reads...), append(writes, t.writes...)
	}
	s.allocs = float64(mallocs) / float64(s.ops+s.errs)
	s.reads, s.writes = newLatency(reads), newLatency(writes)
	return s
}

// count adds what another sample counted.
func (s *sample) count(o sample) {
	s.ops += o.ops
	s.errs += o.errs
	s.err = cmp.Or(s.err, o.err)
	s.updates += o.updates
}

func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

// A latency sums up how long operations took. It is zero for none.
type latency struct {
	p50, p99, max time.Duration
}

func newLatency(took []time.Duration) latency {
	if len(took) == 0 {
		return latency{}
	}
	slices.Sort(took)
	return latency{p50: percentile(took, 50), p99: percentile(took, 99), max: took[len(took)-1]}
}

// percentile is the smallest value that p percent of the values do not exceed.
func percentile(sorted []time.Duration, p int) time.Duration {
	return sorted[(len(sorted)*p+99)/100-1]
}
