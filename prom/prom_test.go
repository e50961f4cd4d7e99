package dblockerprom_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mattn/go-sqlite3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"

	"github.com/calmdocs/dblocker"
	dblockerprom "github.com/calmdocs/dblocker/prom"
)

// open opens a SQLite file that the collector observes.
func open(t testing.TB, metrics *dblockerprom.Collector, as string) *sql.DB {
	t.Helper()
	name := fmt.Sprintf("prom-%s-%d", t.Name(), time.Now().UnixNano())
	if err := dblocker.Register(name, &sqlite3.SQLiteDriver{}, metrics.Observe(as), metrics.Observe(as)); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open(name, "file:"+filepath.Join(t.TempDir(), "app.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	metrics.Add(as, db)
	return db
}

// use has one wait on the handle, among other things.
func use(t *testing.T, db *sql.DB) {
	t.Helper()
	ctx := dblocker.WithUser(context.Background(), "secret-user")
	if _, err := db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS t (v INT)"); err != nil {
		t.Fatal(err)
	}
	_, unlock, err := dblocker.Lock(ctx, db)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, err := db.ExecContext(dblocker.Fork(ctx), "INSERT INTO t VALUES (1)")
		done <- err
	}()
	for {
		if st, err := dblocker.Stats(db); err != nil || st.Waiting == 1 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	unlock()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// scrape returns what a scrape has, when it has want.
func scrape(t *testing.T, metrics prometheus.Collector, want string) string {
	t.Helper()
	for until := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(metrics)
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		for _, f := range families {
			if _, err := expfmt.MetricFamilyToText(&got, f); err != nil {
				t.Fatal(err)
			}
		}
		if strings.Contains(got.String(), want) {
			return got.String()
		}
		if time.Now().After(until) {
			t.Fatalf("a scrape never had %s:\n%s", want, got.String())
		}
	}
}

// TestScrape has waits, holds, operations and gauges, and no user.
func TestScrape(t *testing.T) {
	metrics := dblockerprom.New()
	db := open(t, metrics, "app")
	use(t, db)
	scrape(t, metrics, `dblocker_wait_seconds_count{db="app",mode="exclusive",outcome="granted",what="lock"} 1`)
	got := scrape(t, metrics, `db_client_operation_duration_seconds_count{db="app",operation="INSERT",result="ok",system="sqlite"} 1`)
	for _, want := range []string{`dblocker_hold_seconds_count{db="app",kind="section",mode="exclusive",what="lock"} 1`, `dblocker_locks_held{db="app"} 0`, `dblocker_statement_lookups_total{db="app",result="hit"}`,
		`dblocker_statement_lookups_total{db="app",result="miss"}`, `dblocker_statements_kept{db="app"}`, `dblocker_events_total{db="app",kind="conn_opened"}`} {
		scrape(t, metrics, want)
	}
	if strings.Contains(got, "secret-user") {
		t.Errorf("a metric has the user:\n%s", got)
	}
	if _, err := db.Exec("INSERT INTO none VALUES (1)"); err == nil {
		t.Error("a table that is not there takes rows")
	}
	scrape(t, metrics, `db_client_operation_duration_seconds_count{db="app",operation="INSERT",result="1",system="sqlite"} 1`) // SQLITE_ERROR
	if problems, err := testutil.CollectAndLint(metrics); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}

// A metric is what a Desc says, and its type.
type metric struct {
	kind   string // counter, gauge or histogram
	labels []string
}

// known returns all metrics of a collector.
func known(t *testing.T, metrics *dblockerprom.Collector) map[string]metric {
	t.Helper()
	page := docs(t)
	all := make(map[string]metric)
	descs := make(chan *prometheus.Desc, 100)
	metrics.Describe(descs)
	close(descs)
	for d := range descs {
		m := regexp.MustCompile(`fqName: "(\w+)".*variableLabels: \{([^}]*)\}`).FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("%v", d)
		}
		all[m[1]] = metric{page[m[1]].kind, strings.FieldsFunc(m[2], func(r rune) bool { return r == ',' })}
	}
	return all
}

// docs returns the metrics that the page has.
func docs(t *testing.T) map[string]metric {
	t.Helper()
	text, err := os.ReadFile("../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]metric)
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+_\\w+)` \\| (counter|gauge|histogram), (\\w+) \\|([^|]*)\\| [^|]+ \\|$").FindAllStringSubmatch(string(text), -1) {
		var labels []string
		for _, l := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(m[4], -1) {
			labels = append(labels, l[1])
		}
		all[m[1]] = metric{m[2], labels}
		if strings.Contains(m[1], "seconds") != (m[3] == "seconds") || strings.Contains(m[1], "bytes") != (m[3] == "bytes") {
			t.Errorf("%s is in %s", m[1], m[3])
		}
	}
	return all
}

// TestMetricsAreInTheDocs: each metric of the collector is in the table of the page, with its type and labels, and no other.
func TestMetricsAreInTheDocs(t *testing.T) {
	metrics := dblockerprom.New()
	use(t, open(t, metrics, "app"))
	page := docs(t)
	for name, m := range known(t, metrics) {
		if got, ok := page[name]; !ok || fmt.Sprint(got.labels) != fmt.Sprint(m.labels) {
			t.Errorf("the page has %s with the labels %v; the collector with %v", name, got.labels, m.labels)
		}
		delete(page, name)
	}
	for name := range page {
		t.Errorf("the page has %s, and the collector has not", name)
	}
	text := scrape(t, metrics, "dblocker_wait_seconds_count")
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\w+) (\w+)$`).FindAllStringSubmatch(text, -1) {
		if got := docs(t)[m[1]].kind; got != m[2] {
			t.Errorf("%s is a %s, and in the page a %s", m[1], m[2], got)
		}
	}
}

// values are those that labels have; of those that are not here, any.
var values = map[string][]string{
	"outcome": {"granted", "timeout", "context", "deadlock", "closed", "failed"},
	"kind": {"wait_began", "wait_ended", "hold_long", "deadlock", "upgrade", "spill", "batch", "sync", "session_lost", "session_ended", "lock_lost", "conn_opened", "conn_closed",
		"database_opened", "database_evicted"},
	"what":  {"lock", "gate", "connection", "turn", "process", "database"},
	"state": {"used", "idle"},
}

// TestRareBeginsAtZero: of what happens a first time, a rate has to show it.
func TestRareBeginsAtZero(t *testing.T) {
	metrics := dblockerprom.New()
	use(t, open(t, metrics, "app"))
	for _, kind := range values["kind"] {
		scrape(t, metrics, fmt.Sprintf(`dblocker_events_total{db="app",kind=%q}`, kind))
	}
	for _, outcome := range values["outcome"] {
		scrape(t, metrics, fmt.Sprintf(`dblocker_wait_seconds_count{db="app",mode="exclusive",outcome=%q,what="lock"}`, outcome))
	}
}

// TestHandlesAreApart: each metric says of which handle it is, and one that is taken off has none.
func TestHandlesAreApart(t *testing.T) {
	metrics := dblockerprom.New()
	app, billing := open(t, metrics, "app"), open(t, metrics, "billing")
	use(t, app)
	use(t, billing)
	scrape(t, metrics, `dblocker_events_total{db="app",kind="wait_ended"} 1`)
	got := scrape(t, metrics, `dblocker_events_total{db="billing",kind="wait_ended"} 1`)
	for _, line := range strings.Split(got, "\n") {
		if line != "" && !strings.HasPrefix(line, "#") && !strings.Contains(line, `db="`) {
			t.Errorf("without a name: %s", line)
		}
	}
	metrics.Remove("billing")
	use(t, app) // after what was told of the other
	if _, err := billing.Exec("INSERT INTO t VALUES (2)"); err != nil {
		t.Fatal(err)
	}
	billing.Close()
	if got := scrape(t, metrics, `dblocker_events_total{db="app",kind="wait_ended"} 2`); strings.Contains(got, "billing") {
		t.Errorf("a handle that was taken off is still there:\n%s", got)
	}
}

// TestCountsNeedNoEvents: what is counted now is right of a handle that nobody observes, and whatever events are dropped.
func TestCountsNeedNoEvents(t *testing.T) {
	metrics := dblockerprom.New()
	db, err := dblocker.Openx("sqlite3", filepath.Join(t.TempDir(), "{user}.db"), dblocker.MaxOpenConns(1))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	metrics.Add("app", db)
	for user := range 2 {
		if _, err := db.ExecContext(dblocker.WithUser(context.Background(), user+1), "CREATE TABLE t (v INT)"); err != nil {
			t.Fatal(err)
		}
	}
	scrape(t, metrics, `dblocker_open_databases{db="app"} 2`)
	scrape(t, metrics, `dblocker_connections_waiting{db="app"} 0`)
}

// TestBoard: every query of the board of Grafana is for metrics that are in a scrape, by labels and values that they have, and does with each what fits
// its type.
func TestBoard(t *testing.T) {
	metrics := dblockerprom.New()
	use(t, open(t, metrics, "app"))
	text, err := os.ReadFile("board.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Title      string
			Type       string
			Datasource struct{ UID string }
			GridPos    struct{ H, W, X, Y int }
			Targets    []struct{ Expr, RefID string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	all := known(t, metrics)
	queries := 0
	for i, p := range board.Panels {
		if p.Type == "" || p.Title == "" || p.GridPos.W <= 0 || p.GridPos.X+p.GridPos.W > 24 || p.Datasource.UID != "${datasource}" {
			t.Errorf("panel %d cannot be drawn: %+v", i, p)
		}
		refs := make(map[string]bool)
		for _, target := range p.Targets {
			queries++
			if target.RefID == "" || refs[target.RefID] {
				t.Errorf("%s: the query %s has the reference %q", p.Title, target.Expr, target.RefID)
			}
			refs[target.RefID] = true
			for _, problem := range check(all, target.Expr) {
				t.Errorf("%s: %s: %s", p.Title, target.Expr, problem)
			}
		}
	}
	if queries == 0 {
		t.Error("the board has no queries")
	}
}

// TestBoardCheck: the check of the board finds what is wrong.
func TestBoardCheck(t *testing.T) {
	all := known(t, dblockerprom.New())
	for _, expr := range []string{
		"dblocker_locks", "sum by (user) (dblocker_locks_held)", "rate(dblocker_locks_held[5m])", "sum(dblocker_events_total)", `increase(dblocker_events_total{kind="deadlocks"}[5m])`,
		`increase(dblocker_events_total{what="lock"}[5m])`, "histogram_quantile(0.99, sum by (what) (rate(dblocker_wait_seconds_bucket[5m])))", "rate(dblocker_wait_seconds[5m])",
		"rate(dblocker_events_total_count[5m])", "sum(rate(dblocker_sync_seconds_count[5m])", `rate(dblocker_wait_seconds_count{outcome=~"granted|lost"}[5m])`,
	} {
		if len(check(all, expr)) == 0 {
			t.Errorf("nothing is found wrong in %s", expr)
		}
	}
}

var (
	selector = regexp.MustCompile(`\b((?:dblocker|db_client)_\w+)(\{[^}]*\})?(\[[^\]]+\])?`)
	matcher  = regexp.MustCompile(`(\w+) *(?:=~|!~|!=|=) *"([^"]*)"`)
	grouping = regexp.MustCompile(`\bby \(([^)]*)\)`)
)

// check returns what is wrong with a query.
func check(all map[string]metric, expr string) (problems []string) {
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if strings.Count(expr, "(") != strings.Count(expr, ")") {
		wrong("the parentheses do not close")
	}
	found := selector.FindAllStringSubmatch(expr, -1)
	if len(found) == 0 {
		wrong("it has no metric of ours")
	}
	for _, f := range found {
		name, labels, window := f[1], f[2], f[3]
		part := regexp.MustCompile(`_(bucket|sum|count)$`).FindString(name)
		m, ok := all[name]
		if of, histogram := all[strings.TrimSuffix(name, part)]; part != "" && histogram && of.kind == "histogram" {
			m, ok = of, true
			if part == "_bucket" {
				m.labels = append([]string{"le"}, m.labels...)
			}
		} else if m.kind == "histogram" {
			wrong("%s is a histogram, which has only a bucket, a sum and a count", name)
		}
		if !ok {
			wrong("%s is in no scrape", name)
			continue
		}
		if grows := m.kind != "gauge"; grows != (window != "") {
			wrong("%s is a %s: only what grows has a rate, and needs one", name, m.kind)
		}
		for _, l := range matcher.FindAllStringSubmatch(labels, -1) {
			if !slices.Contains(m.labels, l[1]) {
				wrong("%s has no label %s", name, l[1])
			}
			for _, v := range strings.Split(l[2], "|") {
				if list := values[l[1]]; list != nil && !slices.Contains(list, v) {
					wrong("%s is never %q", l[1], v)
				}
			}
		}
		for _, g := range grouping.FindAllStringSubmatch(expr, -1) {
			for _, l := range strings.Split(g[1], ",") {
				if l = strings.TrimSpace(l); !slices.Contains(m.labels, l) {
					wrong("%s has no label %s", name, l)
				}
			}
			if part == "_bucket" && !strings.Contains(g[1], "le") {
				wrong("a quantile needs the label le")
			}
		}
	}
	return problems
}

// BenchmarkScrape with 100,000 users held and 10,000 waiting. It also reports what another request takes meanwhile to lock and unlock, beside what it
// takes without.
func BenchmarkScrape(b *testing.B) {
	metrics := dblockerprom.New()
	db := open(b, metrics, "app")
	ctx := context.Background()
	var unlocks []func()
	for user := range 100_000 {
		_, unlock, err := dblocker.RLock(dblocker.WithUser(ctx, user+1), db)
		if err != nil {
			b.Fatal(err)
		}
		unlocks = append(unlocks, unlock)
	}
	waits, cancel := context.WithCancel(ctx)
	done := make(chan bool)
	for user := range 10_000 {
		go func() {
			_, unlock, _ := dblocker.Lock(dblocker.WithUser(waits, user+1), db)
			unlock()
			done <- true
		}()
	}
	for {
		if st, _ := dblocker.Stats(db); st.Waiting == 10_000 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics)
	quiet := lockTimes(db, func() { time.Sleep(time.Second) })
	gather := func() {
		if _, err := registry.Gather(); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		gather()
	}
	b.StopTimer()
	beside := lockTimes(db, func() {
		for range 20 {
			gather()
		}
	})
	for name, times := range map[string][]time.Duration{"quiet": quiet, "beside": beside} {
		for _, q := range []struct {
			name string
			part float64
		}{{"p50", 0.5}, {"p99", 0.99}, {"p999", 0.999}} {
			b.ReportMetric(float64(times[int(q.part*float64(len(times)-1))])/1e3, "µs/lock-"+name+"-"+q.name)
		}
	}
	cancel()
	for range 10_000 {
		<-done
	}
	for _, unlock := range unlocks {
		unlock()
	}
}

// lockTimes returns how long a request takes, in order, that locks a user of its own again and again while f runs.
func lockTimes(db *sql.DB, f func()) (times []time.Duration) {
	var stop atomic.Bool
	done := make(chan bool)
	go func() {
		defer close(done)
		ctx := dblocker.WithUser(context.Background(), "nobody else")
		for !stop.Load() {
			began := time.Now()
			_, unlock, _ := dblocker.Lock(ctx, db)
			unlock()
			times = append(times, time.Since(began))
		}
	}()
	f()
	stop.Store(true)
	<-done
	slices.Sort(times)
	return times
}

// TestPackageDocCompiles: the snippet of the package's comment stands in example_test.go.
func TestPackageDocCompiles(t *testing.T) {
	source, err := os.ReadFile("prom.go")
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	doc, _, _ := strings.Cut(string(source), "\npackage ")
	var snippet strings.Builder
	for _, m := range regexp.MustCompile("(?m)^//(\t.*\n)").FindAllStringSubmatch(doc, -1) {
		snippet.WriteString(m[1])
	}
	if snippet.Len() == 0 || !strings.Contains(string(example), snippet.String()) {
		t.Errorf("not in example_test.go:\n%s", snippet.String())
	}
}

// TestNoHandle: a handle that has no metrics is logged once; one that is closed is not.
func TestNoHandle(t *testing.T) {
	var log bytes.Buffer
	defer slog.SetDefault(slog.Default())
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	metrics := dblockerprom.New()
	bare, err := sql.Open("sqlite3", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer bare.Close()
	closed, err := sql.Open("dblocker", "sqlite3::memory:")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	metrics.Add("none", nil)
	metrics.Add("bare", bare)
	metrics.Add("closed", closed)
	for range 2 {
		testutil.CollectAndCount(metrics)
	}
	got := log.String()
	for _, want := range []string{`db=none error="dblocker: the database handle is nil`, `db=bare error="dblocker: the database was not opened through dblocker`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in:\n%s", want, got)
		}
	}
	if n := strings.Count(got, "\n"); n != 2 {
		t.Errorf("%d lines:\n%s", n, got)
	}
}
