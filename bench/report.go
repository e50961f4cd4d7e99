package main

import (
	"cmp"
	"fmt"
	"strings"
)

// wrong is what went wrong in a contender's slices.
type wrong struct {
	ops, errs, lost int
	err             error // the first
}

func (w *wrong) add(e *entry) {
	for _, s := range e.samples {
		w.ops += s.ops + s.errs
		w.errs += s.errs
		w.lost += s.lost
		w.err = cmp.Or(w.err, s.err)
	}
}

func (e *entry) wrong() (w wrong) {
	w.add(e)
	return w
}

func (w wrong) errors() string {
	if w.errs == 0 {
		return "0"
	}
	return fmt.Sprintf("%d of %d", w.errs, w.ops)
}

// failures are notes about what went wrong in comparisons.
func failures(all []*comparison) (notes []string) {
	for _, c := range all {
		for _, e := range c.entries {
			if w := e.wrong(); w.errs > 0 || w.lost != 0 {
				notes = append(notes, fmt.Sprintf("%s, %s: %s errors, %d updates lost; the first error: %v",
					c.workload, e.contender, w.errors(), w.lost, w.err))
			}
		}
	}
	return notes
}

// callSummary is for one engine: a line for each workload, a column for each
// contender.
func callSummary(title string, all []*comparison) *table {
	t := &table{title: title + ": time against the bare driver (least–most), allocations", notes: failures(all)}
	t.head = []string{"operation", "context", "goroutines"}
	for _, e := range all[0].entries {
		t.head = append(t.head, e.contender)
	}
	for _, c := range all {
		cells := strings.Split(c.workload, "/")
		for i, e := range c.entries {
			figure := c.spread(i).String()
			if e == c.baseline {
				figure = duration(medianOf(e.samples, perOp))
			}
			cells = append(cells, fmt.Sprintf("%s, %s", figure, allocs(e)))
		}
		t.add(cells...)
	}
	return t
}

// scopeSummary is for one engine at one distance: a line for each workload, a column for each contender.
func scopeSummary(title string, all []*comparison) *table {
	t := &table{title: title + ": time against lock_scope=process (least–most), connections at the server, messages for an operation", notes: failures(all)}
	t.head = []string{"operation", "goroutines"}
	for _, e := range all[0].entries {
		t.head = append(t.head, e.contender)
	}
	for _, c := range all {
		cells := strings.Split(c.workload, "/")
		for i, e := range c.entries {
			figure := c.spread(i).String()
			if e == c.baseline {
				figure = duration(medianOf(e.samples, perOp))
			}
			if strings.HasPrefix(c.workload, hotUser) {
				figure += e.shares()
			}
			if e.conns > 0 {
				figure = fmt.Sprintf("%s, %d", figure, e.conns)
			}
			if e.sent > 0 {
				figure = fmt.Sprintf("%s, %.1f", figure, e.messages())
			}
			cells = append(cells, figure)
		}
		t.add(cells...)
	}
	return t
}

func allocs(e *entry) string {
	return fmt.Sprintf("%.0f", medianOf(e.samples, func(s sample) float64 { return s.allocs }))
}

// callDetails is a line for each contender in each workload.
func callDetails(title string, all []*comparison) *table {
	t := &table{title: title, head: []string{"workload", "contender", "time/op", "allocs/op", all[0].title, "least–most", "errors", "lost"}}
	for _, c := range all {
		for i, e := range c.entries {
			s, w := c.spread(i), e.wrong()
			t.add(c.workload, e.contender, duration(medianOf(e.samples, perOp)), allocs(e),
				short(s.median), short(s.least)+"–"+short(s.most), w.errors(), fmt.Sprint(w.lost))
		}
	}
	return t
}

// loadSummary is for one place: a line for each contender, a column for the figure
// of each workload.
func loadSummary(title string, all []*comparison) *table {
	t := &table{title: title + ": a figure for each workload (least–most), and what went wrong in all of them"}
	t.head = []string{"contender"}
	for _, c := range all {
		t.head = append(t.head, c.workload+": "+c.title)
	}
	t.head = append(t.head, "errors", "lost updates")
	for i, e := range all[0].entries {
		cells := []string{e.contender}
		var w wrong
		for _, c := range all {
			cells = append(cells, c.spread(i).String())
			w.add(c.entries[i])
		}
		t.add(append(cells, w.errors(), fmt.Sprint(w.lost))...)
	}
	return t
}

// loadDetails is for one workload: a line for each contender.
func loadDetails(title string, c *comparison) *table {
	t := &table{title: title, notes: failures([]*comparison{c})}
	t.head = []string{"contender", "ops/s", c.title, "reads, ms: p50 / p99 / longest", "writes, ms: p50 / p99 / longest",
		"allocs/op", "errors", "lost updates"}
	for i, e := range c.entries {
		w := e.wrong()
		rate := medianOf(e.samples, func(s sample) float64 { return s.rate })
		t.add(e.contender, fmt.Sprintf("%.0f", rate), c.spread(i).String(),
			milliseconds(e.samples, func(s sample) latency { return s.reads }),
			milliseconds(e.samples, func(s sample) latency { return s.writes }),
			allocs(e), w.errors(), fmt.Sprint(w.lost))
	}
	return t
}
