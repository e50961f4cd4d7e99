//go:build unix

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// tested runs the tests of a module with this source, and returns what was counted and printed.
func tested(t *testing.T, source string, flags ...string) (*tally, string) {
	t.Helper()
	testdb.NoLeaks(t)
	printed, err := os.Create(filepath.Join(t.TempDir(), "printed"))
	if err != nil {
		t.Fatal(err)
	}
	defer printed.Close()
	stdout, stderr := os.Stdout, os.Stderr
	os.Stdout, os.Stderr = printed, printed
	tally, err := goTest(t.Context(), newModule(t, source), append(flags, "-count=1"), nil, func() {})
	os.Stdout, os.Stderr = stdout, stderr
	if tally == nil {
		t.Fatal("nothing was counted:", err)
	}
	out, err := os.ReadFile(printed.Name())
	if err != nil {
		t.Fatal(err)
	}
	return tally, string(out)
}

const fewTests = `
func TestA(t *testing.T) { t.Log("a is silent") }
func TestB(t *testing.T) {
	t.Run("part", func(t *testing.T) { t.Error("b is wrong") })
	t.Run("other", func(t *testing.T) {})
}
func TestC(t *testing.T) { t.Skip("no c here") }
func TestD(t *testing.T) { t.Run("part", func(t *testing.T) { t.Skip("no c here") }) }
func BenchmarkE(b *testing.B) { for b.Loop() {} }`

func TestTallyCountsAndShowsFailuresOnly(t *testing.T) {
	tally, out := tested(t, fewTests, "-bench=.", "-benchtime=1x")
	if got := tally.String(); got != "2 passed, 1 failed, 1 skipped" { // go test runs no benchmarks after a failure
		t.Errorf("counted %s\n%s", got, out)
	}
	if !slices.Equal(tally.failures, []string{"TestB"}) || tally.reasons["no c here"] != 2 {
		t.Errorf("failures %q, reasons %v", tally.failures, tally.reasons)
	}
	for _, want := range []string{"--- FAIL: TestB", "b is wrong", "FAIL\texample.com/m"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in:\n%s", want, out)
		}
	}
	for _, other := range []string{"a is silent", "=== RUN", "no c here", "--- PASS"} {
		if strings.Contains(out, other) {
			t.Errorf("%q is printed, which go test does not without -v:\n%s", other, out)
		}
	}
}

func TestTallyPrintsAllIfAsked(t *testing.T) {
	_, out := tested(t, fewTests, "-v")
	for _, want := range []string{"a is silent", "=== RUN", "no c here", "b is wrong"} {
		if strings.Count(out, want) == 0 {
			t.Errorf("%q is missing in:\n%s", want, out)
		}
	}
	if n := strings.Count(out, "b is wrong"); n != 1 {
		t.Errorf("a message is printed %d times:\n%s", n, out)
	}
}

func TestTallyCountsBenchmarks(t *testing.T) {
	tally, out := tested(t, fewTests, "-bench=.", "-benchtime=1x", "-run=TestA")
	if got := tally.String(); got != "1 passed, 0 failed, 0 skipped, 1 benchmark result" || !strings.Contains(out, "ns/op") {
		t.Errorf("counted %s\n%s", got, out)
	}
}

func TestTallyOfWhatEndsEarly(t *testing.T) {
	tally, out := tested(t, `func TestA(t *testing.T) { t.Log("was here"); panic("out of order") }`)
	if !slices.Equal(tally.failures, []string{"TestA"}) || tally.failed != 1 || strings.Count(out, "panic: out of order") == 0 {
		t.Errorf("a panic: failures %q, printed:\n%s", tally.failures, out)
	}
	tally, out = tested(t, `func TestA(t *testing.T) { os.Exit(3) }`)
	if !slices.Equal(tally.failures, []string{"TestA"}) {
		t.Errorf("an exit: failures %q, printed:\n%s", tally.failures, out)
	}
	tally, out = tested(t, `func TestA(t *testing.T) { undefined() }`)
	if !slices.Equal(tally.failures, []string{"package example.com/m"}) || !strings.Contains(out, "undefined: undefined") {
		t.Errorf("a build that fails: failures %q, printed:\n%s", tally.failures, out)
	}
}

func TestModulesThatCannotBeTestedAreLeftOut(t *testing.T) {
	silence(t)
	t.Setenv("GOTOOLCHAIN", "local")
	t.Setenv("GOPROXY", "off")
	t.Setenv("GOFLAGS", "-mod=mod")
	t.Setenv("GOMODCACHE", t.TempDir())
	for name, gomod := range map[string]string{
		"it needs a newer Go":         "module example.com/m\n\ngo 1.999\n",
		"modules that it needs canno": "module example.com/m\n\ngo 1.25.0\n\nrequire example.com/other v1.0.0\n",
	} {
		dir := newModule(t, `func TestA(t *testing.T) { other.Do() }`)
		source := filepath.Join(dir, "x_test.go")
		content, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string]string{
			source:                       strings.Replace(string(content), `"os"`, `"example.com/other"; "os"`, 1),
			filepath.Join(dir, "go.mod"): gomod,
		} {
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		for _, ci := range []string{"", "true"} {
			t.Setenv("CI", ci)
			s := new(summary)
			err := testModule{dir, "m"}.test(t.Context(), nil, nil, s, func() {})
			if ci == "" && (len(s.leftOut) != 1 || !strings.Contains(s.leftOut[0], name)) {
				t.Errorf("%s: left out %q", name, s.leftOut)
			}
			if (err != nil) != (ci != "") {
				t.Errorf("%s: CI=%q: error %v", name, ci, err)
			}
		}
	}
}

func TestSummary(t *testing.T) {
	s := &summary{start: time.Now()}
	tally := newTally(nil, nil)
	tally.passed, tally.failed, tally.failures = 3, 1, []string{"TestX"}
	tally.reasons["no server"] = 7
	s.add("dblocker", tally)
	s.add("other", nil)
	s.leaveOut("tests with PgBouncer", "it is not here")
	var out bytes.Buffer
	s.print(&out, 0)
	for _, want := range []string{"dblocker", "3 passed, 1 failed", "failed: TestX", "other", "not counted", "7: no server",
		"left out:  tests with PgBouncer: it is not here", "passed, as far as tested"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, &out)
		}
	}
}
