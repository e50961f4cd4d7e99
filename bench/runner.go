package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/pprof"
	"sync/atomic"
	"time"
)

// A comparison is one workload, done by several contenders in turn.
type comparison struct {
	where    string // the engine, or the place of the files
	workload string
	busy     int // processes that keep the processors busy meanwhile
	entries  []*entry
	baseline *entry // what others are compared with

	// figure is what entry i comes to in a round, and title says what that is. Both
	// sides of a ratio are of the same round.
	figure func(i, round int) float64
	title  string
}

// An entry is a contender in a comparison.
type entry struct {
	contender string
	open      func(ctx context.Context, p plan) (*trial, error)
	samples   []sample        // by round
	sides     [2]atomic.Int64 // operations by either of two handles, in the suite "scope"
	conns     int             // the most that the server had for it, in the suite "scope"
	sent      int64           // messages to the server, if that is far away, in the suite "scope"
	prints    []footprint     // by round, of the workload "memory"
}

// A trial is a contender's open database with work to do on it.
type trial struct {
	workers []worker
	settles time.Duration                          // the warm-up, if it is not a fifth of a slice
	sum     func(ctx context.Context) (int, error) // of the counters, each of which an update raises by one
	close   func() error
}

// A plan is how often each contender does each workload, for how long, and by how
// many goroutines.
type plan struct {
	rounds int
	slice  time.Duration
	crowd  int // the most goroutines that do the same; 0 is no limit
}

// or fills in what is not set.
func (p plan) or(def plan) plan {
	return plan{cmp.Or(p.rounds, def.rounds), cmp.Or(p.slice, def.slice), p.crowd}
}

// limit is how many goroutines stand for n.
func (p plan) limit(n int) int {
	if p.crowd == 0 {
		return n
	}
	return min(n, p.crowd)
}

// run has every contender work on every workload for one slice in each round.
// Rounds are outermost: what disturbs the machine for a while then disturbs every
// workload a little, instead of one a lot. When ctx is done, run stops after the
// running slice, and the samples of complete rounds stay.
func (p plan) run(ctx context.Context, all []*comparison, progress io.Writer) error {
	for round := range p.rounds {
		start := time.Now()
		for _, c := range all {
			if err := c.round(ctx, p, round); err != nil {
				dropIncomplete(all, round)
				return err
			}
		}
		fmt.Fprintf(progress, "round %d of %d took %.1f s\n", round+1, p.rounds, time.Since(start).Seconds())
	}
	return nil
}

// round has every contender work for one slice.
func (c *comparison) round(ctx context.Context, p plan, round int) (err error) {
	calm, err := spin(c.busy)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, calm()) }()
	for _, e := range order(c.entries, round) {
		s, err := e.slice(ctx, p)
		if err != nil {
			return fmt.Errorf("%s, %s, %s: %w", c.where, c.workload, e.contender, err)
		}
		e.samples = append(e.samples, s)
	}
	return nil
}

// order is the order of work in a round. From round to round everybody changes
// places, and whoever worked before somebody works after them.
func order(entries []*entry, round int) []*entry {
	n := len(entries)
	turned := make([]*entry, n)
	for i, e := range entries {
		if round%2 == 1 {
			i = n - i
		}
		turned[(i+round)%n] = e
	}
	return turned
}

func dropIncomplete(all []*comparison, rounds int) {
	for _, c := range all {
		for _, e := range c.entries {
			e.samples = e.samples[:rounds]
		}
	}
}

// slice opens the contender's database, warms up, works for a slice, and closes
// the database. Its error is one of the benchmark; what operations failed with is
// in the sample.
func (e *entry) slice(ctx context.Context, p plan) (s sample, err error) {
	if err := ctx.Err(); err != nil {
		return s, err
	}
	t, err := e.open(ctx, p)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	before, err := t.sum(ctx)
	if err != nil {
		return s, err
	}
	var warmUp sample
	pprof.Do(ctx, pprof.Labels("contender", e.contender), func(context.Context) {
		warmUp = measure(cmp.Or(t.settles, p.slice/5), t.workers)
		s = measure(p.slice, t.workers)
	})
	after, err := t.sum(ctx)
	s.count(warmUp)
	s.lost = s.updates - (after - before)
	return s, err
}
