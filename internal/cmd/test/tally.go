//go:build unix

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A tally reads what go test -json says, prints what go test would print without it, and counts. It counts tests, not what they
// have below them with t.Run.
type tally struct {
	out     io.Writer
	verbose bool
	built   func() // called when the tests of a package begin, which go test does in the order in which it names them

	passed, failed, skipped int
	benchmarks              int
	failures                []string       // names of tests, and of packages that failed without one
	reasons                 map[string]int // of skips, also of those below tests
	took                    time.Duration

	hasFailed map[string]bool             // by package: a test of it has
	said      map[string]*strings.Builder // by package and test: what tests have printed that have not ended
}

// An event is a line of go test -json: see go doc test2json.
type event struct {
	Action, Package, Test, Output string
}

func newTally(out io.Writer, flags []string) *tally {
	return &tally{
		out:       out,
		built:     func() {},
		verbose:   slices.ContainsFunc(flags, regexp.MustCompile(`^--?(test\.)?v(=|$)`).MatchString),
		reasons:   make(map[string]int),
		hasFailed: make(map[string]bool),
		said:      make(map[string]*strings.Builder),
	}
}

// read returns when there is nothing more to read.
func (t *tally) read(r io.Reader) {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		var e event
		switch {
		case line == "":
		case line[0] != '{' || json.Unmarshal([]byte(line), &e) != nil:
			io.WriteString(t.out, line) // not an event
		default:
			t.take(e)
		}
		if err != nil {
			return
		}
	}
}

func (t *tally) take(e event) {
	top, _, below := strings.Cut(e.Test, "/")
	switch e.Action {
	case "start":
		t.built()
	case "build-output":
		io.WriteString(t.out, e.Output)
	case "output":
		t.output(e, top)
	case "pass", "fail", "skip":
		if e.Action == "skip" && e.Test != "" {
			t.reasons[t.reason(e.Package, top)]++
		}
		if e.Test == "" {
			t.packageEnded(e)
		} else if !below {
			t.testEnded(e)
		}
	}
}

// marks are the lines that only go test -v prints.
var marks = regexp.MustCompile(`^(=== (RUN|PAUSE|CONT|NAME|ATTR) |PASS\n$|testing: warning: no tests to run)`)

// success is the last line of a test, or part of one, that has not failed.
var success = regexp.MustCompile(`^ *--- (PASS|SKIP): `)

var result = regexp.MustCompile(`\d ns/op`)

func (t *tally) output(e event, top string) {
	if result.MatchString(e.Output) {
		t.benchmarks++
	}
	switch {
	case t.verbose, e.Test == "" && !marks.MatchString(e.Output), strings.HasPrefix(top, "Benchmark") && !marks.MatchString(e.Output):
		io.WriteString(t.out, e.Output)
	}
	if e.Test == "" {
		return
	}
	key := e.Package + " " + top
	if t.said[key] == nil {
		t.said[key] = new(strings.Builder)
	}
	if !marks.MatchString(e.Output) && !success.MatchString(e.Output) {
		t.said[key].WriteString(e.Output)
	}
}

func (t *tally) testEnded(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "pass":
		t.passed++
	case "skip":
		t.skipped++
	case "fail":
		t.fail(e.Package, e.Test)
	}
	delete(t.said, key)
}

// packageEnded shows what tests have said that never ended: the process did, as by a panic. A package can also fail without a
// test, as one that does not compile.
func (t *tally) packageEnded(e event) {
	for key := range t.said {
		if pkg, test, _ := strings.Cut(key, " "); pkg == e.Package {
			if e.Action == "fail" && !strings.HasPrefix(test, "Benchmark") {
				t.fail(e.Package, test)
			}
			delete(t.said, key)
		}
	}
	if e.Action == "fail" && !t.hasFailed[e.Package] {
		t.failures = append(t.failures, "package "+e.Package)
	}
}

func (t *tally) fail(pkg, test string) {
	t.failed++
	t.failures = append(t.failures, test)
	t.hasFailed[pkg] = true
	t.show(pkg + " " + test)
}

func (t *tally) show(key string) {
	if said := t.said[key]; said != nil && !t.verbose {
		io.WriteString(t.out, said.String())
	}
}

// place is where in a file a message was logged.
var place = regexp.MustCompile(`^ *\S+\.go:\d+: `)

// reason returns the last message of a test that was just skipped.
func (t *tally) reason(pkg, top string) string {
	said := t.said[pkg+" "+top]
	if said == nil {
		return "no reason given"
	}
	lines := strings.Split(strings.TrimSpace(said.String()), "\n")
	for _, line := range slices.Backward(lines) {
		if place.MatchString(line) {
			return place.ReplaceAllString(line, "")
		}
	}
	return "no reason given"
}

func (t *tally) String() string {
	s := fmt.Sprintf("%d passed, %d failed, %d skipped", t.passed, t.failed, t.skipped)
	if t.benchmarks > 0 {
		s += ", " + plural(t.benchmarks, "benchmark result")
	}
	return s
}
