//go:build unix

package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// A summary is what is said at the end.
type summary struct {
	start   time.Time
	modules int // that are to be tested

	mu      sync.Mutex // guards what follows: lanes go on beside each other
	begun   int        // modules
	tested  []string   // names of modules
	tallies []*tally   // nil where go test's output was passed on as it is
	leftOut []string
}

func (s *summary) add(module string, t *tally) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tested, s.tallies = append(s.tested, module), append(s.tallies, t)
}

// next counts the modules whose tests begin.
func (s *summary) next() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun++
	return s.begun
}

func (s *summary) leaveOut(what, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leftOut = append(s.leftOut, what+": "+why)
}

// most is how many lines of a kind are printed.
const most = 20

func (s *summary) print(out io.Writer, status int) {
	fmt.Fprintln(out, "==> summary")
	reasons := make(map[string]int)
	for i, name := range s.tested {
		t := s.tallies[i]
		if t == nil {
			fmt.Fprintf(out, "    %-10s not counted\n", name)
			continue
		}
		fmt.Fprintf(out, "    %-10s %s, in %s\n", name, t, t.took.Round(time.Second))
		for _, f := range firstOf(t.failures) {
			fmt.Fprintf(out, "    %-10s failed: %s\n", "", f)
		}
		for why, n := range t.reasons {
			reasons[why] += n
		}
	}
	for _, what := range s.leftOut {
		fmt.Fprintf(out, "    left out:  %s\n", what)
	}
	for _, line := range firstOf(skips(reasons)) {
		fmt.Fprintf(out, "    skipped:   %s\n", line)
	}
	verdict := "passed"
	switch {
	case status != 0:
		verdict = "failed"
	case len(s.leftOut) > 0:
		verdict = "passed, as far as tested"
	}
	fmt.Fprintf(out, "==> %s, in %s\n", verdict, time.Since(s.start).Round(time.Second))
}

// skips are the reasons with their numbers, the most frequent first.
func skips(reasons map[string]int) (lines []string) {
	often := func(a, b string) int { return cmp.Or(reasons[b]-reasons[a], strings.Compare(a, b)) }
	for _, why := range slices.SortedFunc(maps.Keys(reasons), often) {
		lines = append(lines, fmt.Sprintf("%d: %s", reasons[why], why))
	}
	return lines
}

func firstOf(lines []string) []string {
	if len(lines) <= most {
		return lines
	}
	return append(lines[:most:most], fmt.Sprintf("and %d more", len(lines)-most))
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
