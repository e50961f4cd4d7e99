package main

import (
	"context"
	"database/sql"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/calmdocs/dblocker/internal/testdb"
)

var everything = selection{regexp.MustCompile(""), regexp.MustCompile(""), regexp.MustCompile(""), regexp.MustCompile("")}

// testDatabases are databases on the servers that all tests share.
func testDatabases(t *testing.T) *databases {
	d := &databases{server: func(e *testdb.Engine) (*testdb.Server, error) {
		if e == testdb.MariaDB {
			return testdb.MySQL(t), nil
		}
		return testdb.Postgres(t), nil
	}}
	t.Cleanup(func() {
		if err := d.remove(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// TestCalls: every contender does its work on every engine, and does it right.
func TestCalls(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			testdb.NoLeaks(t)
			all, err := callSuite(t.Context(), testDatabases(t), e, everything)
			if err != nil {
				t.Fatal(err)
			}
			if want := len(calls) * len(settings); len(all) != want {
				t.Errorf("%d workloads, want %d", len(all), want)
			}
			runQuick(t, all)
			for _, c := range all {
				for _, e := range c.entries {
					checkEntry(t, c, e, true)
				}
			}
		})
	}
}

// TestLoads: every contender does its work; those that promise no errors have none.
func TestLoads(t *testing.T) {
	testdb.NoLeaks(t)
	all, err := loadSuite(t.Context(), testDatabases(t), place{name: "test", dir: t.TempDir()}, everything)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != len(loads) {
		t.Errorf("%d workloads, want %d", len(all), len(loads))
	}
	runQuick(t, all)
	for _, c := range all {
		for _, e := range c.entries {
			checkEntry(t, c, e, e.contender != "default")
		}
	}
}

// TestTenants: every contender does its work for users with a file each, and does it right; its memory is measured.
func TestTenants(t *testing.T) {
	testdb.NoLeaks(t)
	users, _ := quickPlan.tenants()
	all, err := tenantSuite(t.Context(), testDatabases(t), place{name: "test", dir: t.TempDir()}, everything, users)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != len(tenantLoads)+1 {
		t.Errorf("%d workloads, want %d", len(all), len(tenantLoads)+1)
	}
	runQuick(t, all)
	for _, c := range all {
		for _, e := range c.entries {
			checkEntry(t, c, e, true)
		}
	}
}

// TestMapClosesTheLeastUsed, and none that is in use.
func TestMapClosesTheLeastUsed(t *testing.T) {
	h := newMapHome(tenantFiles(t.TempDir()), 2, "")
	defer h.close()
	take := func(user string) (*sql.DB, func()) {
		_, db, giveBack, err := h.take(t.Context(), user, false)
		if err != nil {
			t.Fatal(err)
		}
		return db, giveBack
	}
	first, give := take("1")
	second, giveSecond := take("2")
	giveSecond()
	third, giveThird := take("3")
	giveThird()
	if first.Ping() != nil || second.Ping() == nil || third.Ping() != nil {
		t.Error("the one that is not in use is to be closed, and no other")
	}
	give()
}

// TestScopes: every contender does its work at every distance, and does it right, where many do it.
func TestScopes(t *testing.T) {
	crowded := everything
	crowded.workload = regexp.MustCompile(`/(16|32)$|^pair$`)
	for _, e := range engines {
		for _, dist := range distances {
			if e.server == nil && dist != 0 {
				continue
			}
			t.Run(fmt.Sprint(e.name, ", ", dist), func(t *testing.T) {
				testdb.NoLeaks(t)
				all, err := scopeSuite(t.Context(), dist.from(testDatabases(t)), e, crowded)
				if err != nil {
					t.Fatal(err)
				}
				runQuick(t, all)
				for _, c := range all {
					for _, e := range c.entries {
						checkEntry(t, c, e, true)
						if c.where != "sqlite" && e.conns == 0 {
							t.Errorf("%s, %s: no connection was counted", c.workload, e.contender)
						}
					}
				}
			})
		}
	}
}

func runQuick(t *testing.T, all []*comparison) {
	t.Helper()
	if err := quickPlan.run(t.Context(), all, io.Discard); err != nil {
		t.Fatal(err)
	}
}

func checkEntry(t *testing.T, c *comparison, e *entry, promised bool) {
	t.Helper()
	w := e.wrong()
	if len(e.samples) != 1 || w.ops == 0 {
		t.Errorf("%s, %s: no work was done", c.workload, e.contender)
	}
	if promised && (w.errs > 0 || w.lost != 0) {
		t.Errorf("%s, %s: %s errors, %d updates lost; the first error: %v", c.workload, e.contender, w.errors(), w.lost, w.err)
	}
}

// TestWaysAreConfigured: the settings that the contenders are named for reached
// SQLite, and all of them sync alike, but those that sync each commit.
func TestWaysAreConfigured(t *testing.T) {
	testdb.NoLeaks(t)
	for _, w := range ways {
		mode, sync := "wal", "1"
		if w.name == "default" {
			mode = "delete"
		}
		if strings.HasSuffix(w.name, "full") { // with durability=group the connections do not sync
			sync = "2"
		}
		t.Run(w.name, func(t *testing.T) {
			s, err := w.open(testdb.SQLite(t))
			if err != nil {
				t.Fatal(err)
			}
			defer s.close()
			if err := s.create(t.Context(), schema()); err != nil {
				t.Fatal(err)
			}
			for name, want := range map[string]string{"journal_mode": mode, "synchronous": sync} {
				if got, err := pragma(t.Context(), s, name); err != nil || got != want {
					t.Errorf("%s is %q, error %v, want %q", name, got, err, want)
				}
			}
		})
	}
}

func pragma(ctx context.Context, s store, name string) (value string, err error) {
	query := "PRAGMA " + name
	switch s := s.(type) {
	case *sqlStore:
		err = s.writes.QueryRowContext(ctx, query).Scan(&value)
	case zombiezenStore:
		err = s.with(ctx, func(conn *sqlite.Conn) error {
			return sqlitex.Execute(conn, query, &sqlitex.ExecOptions{ResultFunc: func(row *sqlite.Stmt) error {
				value = row.ColumnText(0)
				return nil
			}})
		})
	}
	return value, err
}

// forgetful is a store that acknowledges updates and loses every second of them.
type forgetful struct {
	store
	updates int
}

func (s *forgetful) update(ctx context.Context, user int) error {
	if s.updates++; s.updates%2 == 0 {
		return nil
	}
	return s.store.update(ctx, user)
}

// TestLostUpdatesAreSeen, those of the warm-up included.
func TestLostUpdatesAreSeen(t *testing.T) {
	w := way{open: func(path string) (store, error) {
		s, err := openSQL("sqlite3", path, single)
		return &forgetful{store: s}, err
	}}
	contender := loadContender{w, testdb.SQLite(t)}
	if err := contender.create(t.Context()); err != nil {
		t.Fatal(err)
	}
	l := load{crowds: []crowd{{1, 1, 1, anyUser, update}}}
	e := &entry{open: func(_ context.Context, p plan) (*trial, error) { return contender.trial(l, p) }}
	s, err := e.slice(t.Context(), quickPlan)
	if err != nil {
		t.Fatal(err)
	}
	if s.updates < 2 || s.lost != s.updates/2 {
		t.Errorf("%d of %d updates lost, want half of them", s.lost, s.updates)
	}
}

// TestWrongValuesAreErrors: a contender cannot win by reading something else.
func TestWrongValuesAreErrors(t *testing.T) {
	ctx, d := t.Context(), testDatabases(t)
	e := engines[0]
	dsn, err := d.create(ctx, e, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	db, err := wrappers[0].open(e, dsn)
	if err != nil {
		t.Fatal(err)
	}
	if err := execAll(ctx, db, []string{"UPDATE items SET name = 'wrong'", "DELETE FROM counters"}); err != nil {
		t.Fatal(err)
	}
	s, err := newSession(ctx, e, db)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	for _, c := range calls {
		if err := c.run(ctx, s, 1); err == nil {
			t.Errorf("%s: no error", c.name)
		}
	}
}

// TestOrderIsFair: in as many rounds as there are contenders, everybody works once
// in every place, and after others than before.
func TestOrderIsFair(t *testing.T) {
	entries := []*entry{{}, {}, {}, {}, {}, {}}
	for i, e := range entries {
		places, before := map[int]bool{}, map[*entry]bool{}
		for round := range entries {
			now := order(entries, round)
			place := slices.Index(now, e)
			places[place] = true
			if place > 0 {
				before[now[place-1]] = true
			}
		}
		if len(places) != len(entries) || len(before) != 2 {
			t.Errorf("contender %d worked in %d places and after %d others, want 6 and 2", i, len(places), len(before))
		}
	}
}

// TestInterruptKeepsCompleteRounds: every entry has the same rounds.
func TestInterruptKeepsCompleteRounds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	slices := 0
	c := &comparison{}
	for range 3 {
		c.entries = append(c.entries, &entry{open: func(context.Context, plan) (*trial, error) {
			if slices++; slices == 5 {
				cancel()
			}
			return &trial{
				workers: []worker{func(*tally) error { return nil }},
				sum:     func(context.Context) (int, error) { return 0, nil },
				close:   func() error { return nil },
			}, nil
		}})
	}
	err := plan{rounds: 3, slice: time.Microsecond}.run(ctx, []*comparison{c}, io.Discard)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
	for i, e := range c.entries {
		if len(e.samples) != 1 {
			t.Errorf("entry %d has %d rounds, want 1", i, len(e.samples))
		}
	}
}

// TestSlowOperationIsNotChargedToOthers: a rate is over each worker's own time.
func TestSlowOperationIsNotChargedToOthers(t *testing.T) {
	tallies := []tally{{ops: 1000, took: time.Second}, {ops: 5, took: 5 * time.Second}}
	if s := total(tallies, 0); s.rate != 1001 || s.ops != 1005 {
		t.Errorf("rate %v of %d operations, want 1001 of 1005", s.rate, s.ops)
	}
}

func TestStatistics(t *testing.T) {
	if m := median([]float64{5, 1, 3}); m != 3 {
		t.Errorf("median of 1, 3, 5: %v", m)
	}
	if m := median([]float64{4, 1, 3, 2}); m != 2.5 {
		t.Errorf("median of 1 to 4: %v", m)
	}
	var took []time.Duration
	for i := range 1000 {
		took = append(took, time.Duration(1000-i))
	}
	if l := newLatency(took); l != (latency{p50: 500, p99: 990, max: 1000}) {
		t.Errorf("latency of 1 to 1000: %+v", l)
	}
	if l := newLatency([]time.Duration{7}); l != (latency{7, 7, 7}) {
		t.Errorf("latency of 7 alone: %+v", l)
	}
}

// TestReport: the quick form of the command writes both suites' tables and charts.
func TestReport(t *testing.T) {
	o := options{selected: everything, plan: quickPlan, disk: t.TempDir(), busy: true, markdown: true, svg: t.TempDir()}
	o.selected.engine = regexp.MustCompile("^sqlite$")
	o.selected.workload = regexp.MustCompile("^query/plain/1$|^read$")
	var out strings.Builder
	if err := run(t.Context(), o, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| query | plain | 1 |", "| tuned |", "| dblocker |", "beside 2 busy processes"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, out.String())
		}
	}
	for _, name := range []string{"calls-sqlite.svg", "load-tmpfs.svg", "load-disk.svg", "load-tmpfs-busy.svg", "load-disk-busy.svg"} {
		f, err := os.Open(filepath.Join(o.svg, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := xml.NewDecoder(f).Decode(new(struct{})); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNothingToRunIsAnError(t *testing.T) {
	o := options{suite: "load", selected: everything, plan: quickPlan, disk: t.TempDir()}
	o.selected.workload = regexp.MustCompile("no such workload")
	if err := run(t.Context(), o, io.Discard, io.Discard); err == nil {
		t.Error("no error")
	}
}
