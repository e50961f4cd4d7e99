package compat

import (
	"flag"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// A step is one part of the script. The steps do not depend on each other, but
// share a database: each makes tables of its own.
type step struct {
	name string
	run  func(*session)
}

// forms are the ways to open a database in which the script runs.
var forms = []struct {
	title  string
	driver func(name string) string
	dsn    func(name, dsn string) string
	user   bool // the context carries one
	folds  bool // each call is of another user, and asks for the lock with its statement, where it can
}{
	{title: "bare", driver: same, dsn: bareDSN},
	{title: "bare again", driver: same, dsn: bareDSN}, // or the step proves nothing
	{title: "name form", driver: nameForm, dsn: bareDSN},
	{title: "DSN form with a user", driver: always("dblocker"), dsn: dsnForm, user: true},
	{title: "without kept statements", driver: always("dblocker"), dsn: keepingNone},
	{title: "with locks that reach beyond the process", driver: always("dblocker"), dsn: reachingForm, user: true},
	{title: "with such locks, folded, of many users", driver: always("dblocker"), dsn: reachingForm, folds: true},
}

// leftToStdlib is a step in which pgx's stdlib fails once, since the statement that it has prepared would have other columns by now. pgxfold has
// prepared its own, and prepares it again.
const leftToStdlib = "prepared statement and a change of schema"

func same(name string) string                  { return name }
func nameForm(name string) string              { return name + "-dblocker" }
func always(driver string) func(string) string { return func(string) string { return driver } }
func bareDSN(_, dsn string) string             { return dsn }
func dsnForm(name, dsn string) string          { return name + "?lock_timeout=30s:" + dsn }
func keepingNone(name, dsn string) string      { return name + "?stmt_cache=0:" + dsn }

// reachingForm is for the engines that have locks for it.
func reachingForm(name, dsn string) string {
	switch name {
	case "postgres", "pgx", "mysql":
		return name + "?lock_scope=database:" + dsn
	}
	return dsnForm(name, dsn)
}

// An allowedDifference is the beginning of those lines of a step that may not be
// the same through dblocker.
type allowedDifference struct{ step, line, reason string }

var allowedDifferences = []allowedDifference{
	{"handle", "db.Driver()", "it is our driver, so that wrappers can be stacked; its Unwrap gives the inner one"},
	{"handle", "Conn.Raw", "it shows our connection; its Raw gives the inner one"},
	{"sqlite: pragmas on a connection", "journal_mode into", "a new file is put into WAL mode"},
	{"transaction options", `exec "UPDATE options`, "the SQLite drivers ignore ReadOnly; under a shared lock the write would be beside other readers"},
}

func TestSameAsBare(t *testing.T) {
	used := make(map[allowedDifference]bool)
	for _, d := range drivers {
		t.Run(d.title, func(t *testing.T) {
			testdb.NoLeaks(t)
			dsns := make([]string, len(forms))
			for i := range forms {
				dsns[i] = d.database(t)
			}
			for _, step := range slices.Concat(commonSteps, d.engine.steps, d.steps) {
				t.Run(step.name, func(t *testing.T) {
					testdb.NoLeaks(t)
					transcripts := transcripts(t, d, step, dsns)
					for i := 1; i < len(forms); i++ {
						if forms[i].folds && step.name == leftToStdlib {
							continue
						}
						compare(t, step.name, forms[i].title, transcripts[0], transcripts[i], used)
					}
				})
			}
		})
	}
	for _, a := range allowedDifferences {
		if !used[a] && !t.Failed() && isWholeRun() {
			t.Errorf("the allowed difference %q in %q does not occur: delete it", a.line, a.step)
		}
	}
}

// transcripts runs step in all forms at the same time, each on a handle and a database of its own.
func transcripts(t *testing.T, d testDriver, step step, dsns []string) [][]string {
	sessions := make([]*session, len(forms))
	t.Run("forms", func(t *testing.T) {
		for i, f := range forms {
			t.Run(f.title, func(t *testing.T) {
				t.Parallel()
				s := &session{TB: t, engine: d.engine, quirks: d.quirks, ctx: t.Context(), dsn: dsns[i]}
				if f.user {
					s.ctx = dblocker.WithUser(s.ctx, 1)
				}
				if f.folds {
					s.ctx = manyUsers{s.ctx, new(atomic.Int64)}
					foldOn(s.dsn)
				}
				sessions[i] = s
				s.db = open(t, f.driver(d.name), f.dsn(d.name, s.dsn))
				step.run(s)
			})
		}
	})
	lines := make([][]string, len(forms))
	for i, s := range sessions {
		lines[i] = s.lines
	}
	return lines
}

// compare fails the test at the first line that differs and is not allowed to.
func compare(t *testing.T, step, form string, want, got []string, used map[allowedDifference]bool) {
	t.Helper()
	for i := range max(len(want), len(got)) {
		w, g := line(want, i), line(got, i)
		if w == g || hide(w) == hide(g) {
			continue
		}
		if a := allowed(step, w, g); a != nil && form != "bare again" {
			used[*a] = true
			continue
		}
		t.Errorf("%s, line %d of the transcript:\nbare: %s\n got: %s\nafter %s", form, i+1, w, g, line(want, i-1))
		return
	}
}

func line(lines []string, i int) string {
	if i < 0 || i >= len(lines) {
		return "(no line)"
	}
	return lines[i]
}

func allowed(step, want, got string) *allowedDifference {
	for i, a := range allowedDifferences {
		if a.step == step && strings.HasPrefix(want, a.line) && strings.HasPrefix(got, a.line) {
			return &allowedDifferences[i]
		}
	}
	return nil
}

// isWholeRun tells whether all tests run that there are.
func isWholeRun() bool { return flag.Lookup("test.run").Value.String() == "" }
