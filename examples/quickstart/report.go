package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A measure is what is known of the reads, or of the writes, of one column.
type measure struct {
	mu       sync.Mutex
	ok       int // operations that succeeded
	took     histogram
	errors   int
	first    error // of errors
	firstSet time.Time
}

// time runs one operation and records how it went.
func (m *measure) time(ctx context.Context, op func() error) error {
	start := time.Now()
	err := op()
	took := time.Since(start)
	if err != nil && ctx.Err() != nil {
		return err // it was cut off at the end
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		m.ok++
		m.took.add(took)
		return nil
	}
	if m.errors == 0 {
		m.first, m.firstSet = err, time.Now()
	}
	m.errors++
	return err
}

func (m *measure) done() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ok
}

func (m *measure) failed() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.errors
}

// A histogram counts durations in steps of 5 percent, from a nanosecond to hours.
type histogram [650]int

func (h *histogram) add(d time.Duration) {
	h[min(int(20*math.Log(max(1, float64(d)))), len(h)-1)]++
}

// percentile returns the duration that p percent of all were no longer than.
func (h *histogram) percentile(p float64) time.Duration {
	total := 0
	for _, n := range h {
		total += n
	}
	rest := p / 100 * float64(total)
	for i, n := range h {
		if rest -= float64(n); n > 0 && rest <= 0 {
			return time.Duration(math.Exp((float64(i) + 0.5) / 20))
		}
	}
	return 0
}

// A result is what came of one column.
type result struct {
	column        string
	reads, writes *measure
	lost          int // acknowledged updates
	renames       int // that were acknowledged: each is an update that can be lost
	connections   int // of the inner driver, the most that were open at a time
}

// firstError returns the earliest error of reads and writes.
func (r *result) firstError() error {
	if r.reads.first == nil || r.writes.first != nil && r.writes.firstSet.Before(r.reads.firstSet) {
		return r.writes.first
	}
	return r.reads.first
}

// printTable prints the results side by side.
func printTable(out io.Writer, results []*result) {
	row := func(name string, cell func(*result) string) {
		fmt.Fprintf(out, "%-22s", name)
		for _, r := range results {
			fmt.Fprintf(out, "  %17s", cell(r))
		}
		fmt.Fprintln(out)
	}
	fmt.Fprintln(out)
	row("", func(r *result) string { return r.column })
	row("operations", func(r *result) string { return thousands(r.operations()) })
	row("  reads", func(r *result) string { return thousands(r.reads.ok) })
	row("  writes", func(r *result) string { return thousands(r.writes.ok) })
	row("errors", func(r *result) string { return thousands(r.reads.errors + r.writes.errors) })
	row("lost updates", func(r *result) string { return thousands(r.lost) })
	row("  share of the renames", func(r *result) string { return share(r.lost, r.renames) })
	row("reads, p50 / p99", func(r *result) string { return percentiles(&r.reads.took) })
	row("writes, p50 / p99", func(r *result) string { return percentiles(&r.writes.took) })
	row("most connections open", func(r *result) string { return thousands(r.connections) })
	fmt.Fprint(out, `
Lost updates are renames that the database has acknowledged and that are not in
the final count. Through dblocker a user's reads and writes wait for that user's
writes, in the order of arrival: that is what keeps the updates.
`)
	for _, r := range results {
		if err := r.firstError(); err != nil {
			fmt.Fprintf(out, "First error, %s: %v\n", r.column, err)
		}
	}
	fmt.Fprintln(out, "\nVerdict:", verdict(results))
}

// verdict says in a sentence what came of it.
func verdict(results []*result) string {
	var said []string
	for _, r := range results {
		said = append(said, r.verdict())
	}
	return strings.Join(said, "; ") + "."
}

func (r *result) verdict() string {
	lost, failed := "lost no update", "gave no error"
	if r.lost > 0 {
		lost = fmt.Sprintf("lost %s of the renames without an error", share(r.lost, r.renames))
	}
	if n := r.reads.errors + r.writes.errors; n > 0 {
		failed = fmt.Sprintf("gave %s errors", thousands(n))
	}
	return fmt.Sprintf("%s %s, %s, and took up to %s ms for 99 of 100 writes", r.column, lost, failed, milliseconds(r.writes.took.percentile(99)))
}

func (r *result) operations() int { return r.reads.ok + r.writes.ok }

// share writes n of all in percent; what is more than nothing is not written as 0.
func share(n, all int) string {
	switch {
	case n == 0 || all == 0:
		return "0 %"
	case n*1000 < all:
		return "under 0.1 %"
	}
	return fmt.Sprintf("%.1f %%", 100*float64(n)/float64(all))
}

func percentiles(h *histogram) string {
	return fmt.Sprintf("%s / %s ms", milliseconds(h.percentile(50)), milliseconds(h.percentile(99)))
}

// milliseconds writes d with two or three digits.
func milliseconds(d time.Duration) string {
	ms := float64(d) / 1e6
	switch {
	case ms < 1:
		return fmt.Sprintf("%.2f", ms)
	case ms < 10:
		return fmt.Sprintf("%.1f", ms)
	}
	return fmt.Sprintf("%.0f", ms)
}

// thousands writes n with commas.
func thousands(n int) string {
	s := strconv.Itoa(n)
	var b strings.Builder
	for i, digit := range s {
		if i > 0 && (len(s)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(digit)
	}
	return b.String()
}
