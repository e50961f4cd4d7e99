package dblockerprom_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
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
func open(t testing.TB, metrics *dblockerprom.Collector) *sql.DB {
	t.Helper()
	name := fmt.Sprintf("prom-%s-%d", t.Name(), time.Now().UnixNano())
	if err := dblocker.Register(name, &sqlite3.SQLiteDriver{}, metrics.Observe()); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open(name, "file:"+filepath.Join(t.TempDir(), "app.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	metrics.Add("app", db)
	return db
}

// use has one wait on the handle, among other things.
func use(t *testing.T, db *sql.DB) {
	t.Helper()
	ctx := dblocker.WithUser(context.Background(), "secret-user")
	if _, err := db.ExecContext(ctx, "CREATE TABLE t (v INT)"); err != nil {
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
	use(t, open(t, metrics))
	scrape(t, metrics, `dblocker_wait_seconds_count{mode="exclusive",outcome="granted",what="lock"} 1`)
	got := scrape(t, metrics, `db_client_operation_duration_seconds_count{operation="INSERT",result="ok"} 1`)
	for _, want := range []string{`dblocker_hold_seconds_count{kind="section",mode="exclusive",what="lock"} 1`, `dblocker_locks_held{db="app"} 0`, `dblocker_statement_lookups_total{db="app",result="hit"}`,
		`dblocker_statement_lookups_total{db="app",result="miss"}`, `dblocker_statements_kept{db="app"}`, `dblocker_events_total{kind="conn_opened"}`} {
		scrape(t, metrics, want)
	}
	if strings.Contains(got, "secret-user") {
		t.Errorf("a metric has the user:\n%s", got)
	}
	if problems, err := testutil.CollectAndLint(metrics); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}

// TestBoard: every metric that the board of Grafana asks for is in a scrape.
func TestBoard(t *testing.T) {
	metrics := dblockerprom.New()
	use(t, open(t, metrics))
	got := scrape(t, metrics, "dblocker_wait_seconds_count")
	text, err := os.ReadFile("board.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	known := make(map[string]bool)
	descs := make(chan *prometheus.Desc, 100)
	metrics.Describe(descs)
	close(descs)
	for d := range descs {
		known[regexp.MustCompile(`fqName: "(\w+)"`).FindStringSubmatch(d.String())[1]] = true
	}
	queries := 0
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			queries++
			for _, name := range regexp.MustCompile(`\b(?:dblocker|db_client)_\w+`).FindAllString(target.Expr, -1) {
				family := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
				if !known[name] && !known[family] {
					t.Errorf("%s asks for %s, which is in no scrape", p.Title, name)
				}
			}
		}
	}
	if queries == 0 || !strings.Contains(got, "dblocker_locks_held") {
		t.Errorf("the board has %d queries", queries)
	}
}

// BenchmarkScrape with 100,000 users held and 10,000 waiting.
func BenchmarkScrape(b *testing.B) {
	metrics := dblockerprom.New()
	db := open(b, metrics)
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
	for b.Loop() {
		if _, err := registry.Gather(); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	cancel()
	for range 10_000 {
		<-done
	}
	for _, unlock := range unlocks {
		unlock()
	}
}
