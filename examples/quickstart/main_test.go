package main

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// writeTree makes a small directory tree.
func writeTree(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for i := range 60 {
		dir := filepath.Join(root, fmt.Sprintf("dir%d", i%5))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file%d.txt", i)), []byte("one\ntwo\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// workRows are the rows of the table that are not 0 in any column, if that has had the time.
var workRows = []string{"operations", "reads", "writes", "most connections open"}

// quickstart runs the program and returns what it printed. It gives it a second, and more
// where that was too short: a write to a slow disk may take most of it.
func quickstart(t *testing.T, dsn string) string {
	t.Helper()
	dir := writeTree(t)
	for total := time.Second; ; total *= 4 {
		var out bytes.Buffer
		if err := run(t.Context(), config{dsn: dsn, dir: dir, users: 3, total: total}, &out); err != nil {
			t.Fatalf("run: %v\n%s", err, &out)
		}
		hasWorked := !slices.ContainsFunc(workRows, func(row string) bool {
			return slices.Contains(cells(t, out.String(), row), "0")
		})
		if hasWorked || total > time.Minute {
			return out.String()
		}
	}
}

// cells returns the three cells of a row of the table: bare, tuned and dblocker.
func cells(t *testing.T, out, row string) []string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^ *` + regexp.QuoteMeta(row) + ` {2,}(\S.*?) {2,}(\S.*?) {2,}(\S.*?)$`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("the table has no row %q with three cells:\n%s", row, out)
	}
	return m[1:]
}

// throughDblocker returns the last of them.
func throughDblocker(t *testing.T, out, row string) string { return cells(t, out, row)[2] }

// checkTable looks at what holds on every engine.
func checkTable(t *testing.T, out string) {
	t.Helper()
	for _, row := range workRows {
		if c := cells(t, out, row); slices.Contains(c, "0") {
			t.Errorf("%s: %q; want none to be 0\n%s", row, c, out)
		}
	}
	for _, row := range []string{"reads, p50 / p99", "writes, p50 / p99"} {
		cells(t, out, row)
	}
	if lost := throughDblocker(t, out, "lost updates"); lost != "0" {
		t.Errorf("%s updates were lost through dblocker; want 0\n%s", lost, out)
	}
	if !regexp.MustCompile(`(?m)^Verdict: bare lost .*; tuned lost .*; dblocker lost no update, `).MatchString(out) {
		t.Errorf("no verdict:\n%s", out)
	}
}

func TestSQLite(t *testing.T) {
	testdb.NoLeaks(t)
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	checkTable(t, quickstart(t, ""))
	if left, _ := filepath.Glob(filepath.Join(temp, "dblocker-*")); len(left) > 0 {
		t.Errorf("left behind: %v; want nothing", left)
	}
}

func TestPostgres(t *testing.T) {
	testdb.NoLeaks(t)
	testServer(t, "postgres", testdb.Postgres(t).NewDatabase(t))
}

func TestMySQL(t *testing.T) {
	testdb.NoLeaks(t)
	testServer(t, "mysql", testdb.MySQL(t).NewDatabase(t))
}

// testServer also checks that each form of a DSN works, and that the program
// removes its tables and leaves others alone.
func testServer(t *testing.T, driver string, d *testdb.Database) {
	db, err := sql.Open(driver, d.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("CREATE TABLE files (id INTEGER)"); err != nil {
		t.Fatal(err)
	}
	for name, dsn := range map[string]string{
		"URL":     d.URL(),
		"options": driver + "?max_open_conns=4:" + d.DSN(),
	} {
		out := quickstart(t, dsn)
		checkTable(t, out)
		if errors := throughDblocker(t, out, "errors"); errors != "0" {
			t.Errorf("%s: %s errors through dblocker; want 0\n%s", name, errors, out)
		}
		if most := throughDblocker(t, out, "most connections open"); name == "options" && !strings.Contains("1 2 3 4", most) {
			t.Errorf("%s connections open through dblocker with max_open_conns=4\n%s", most, out)
		}
	}
	rows, err := db.Query("SELECT table_name FROM information_schema.tables WHERE table_schema IN ('public', '" + d.Name + "')")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var tables []string
	for rows.Next() {
		var table string
		if err := rows.Scan(&table); err != nil {
			t.Fatal(err)
		}
		tables = append(tables, table)
	}
	if got := strings.Join(tables, " "); got != "files" {
		t.Errorf("tables in the database: %q; want only the one that was there before, files", got)
	}
}

// A trigger is pulled when what is written to it matches.
type trigger struct {
	bytes.Buffer
	match *regexp.Regexp
	pull  func()
}

func (w *trigger) Write(p []byte) (int, error) {
	n, err := w.Buffer.Write(p)
	if w.match.Match(w.Bytes()) {
		w.pull()
	}
	return n, err
}

// TestInterrupted does what Ctrl-C does, once something was done.
func TestInterrupted(t *testing.T) {
	testdb.NoLeaks(t)
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out := trigger{match: regexp.MustCompile(`(?m)^bare .* [1-9]\S* operations`), pull: cancel}
	if err := run(ctx, config{dir: writeTree(t), users: 2, total: time.Hour}, &out); err != nil {
		t.Fatalf("run: %v\n%s", err, &out.Buffer)
	}
	if !regexp.MustCompile(`(?m)^ *operations +[1-9]`).MatchString(out.String()) {
		t.Errorf("an interrupted run prints no table of what it has done:\n%s", &out.Buffer)
	}
	if left, _ := filepath.Glob(filepath.Join(temp, "dblocker-*")); len(left) > 0 {
		t.Errorf("left behind: %v; want nothing", left)
	}
}

// TestEngine: a server of its own, which is gone at the end.
func TestEngine(t *testing.T) {
	for name, engine := range map[string]*testdb.Engine{"postgres": testdb.PostgreSQL, "mariadb": testdb.MariaDB} {
		t.Run(name, func(t *testing.T) {
			testdb.NoLeaks(t)
			if engine.Installed() == "" {
				if os.Getenv("CI") != "" {
					t.Fatalf("%s is not here", engine.Name)
				}
				t.Skipf("%s is not here, and a test downloads nothing", engine.Name)
			}
			var out bytes.Buffer
			if err := run(t.Context(), config{engine: name, dir: writeTree(t), users: 2, total: time.Second}, &out); err != nil {
				t.Fatalf("run: %v\n%s", err, &out)
			}
			if lost := throughDblocker(t, out.String(), "lost updates"); lost != "0" {
				t.Errorf("%s updates were lost through dblocker; want 0\n%s", lost, &out)
			}
			if !strings.HasPrefix(out.String(), "2 users work 3 times for 0.333 seconds") {
				t.Errorf("it does not say first what it does:\n%s", &out)
			}
		})
	}
}

func TestUnknownEngine(t *testing.T) {
	err := run(t.Context(), config{engine: "oracle", dir: writeTree(t), users: 1, total: time.Second}, &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), "postgres") {
		t.Errorf("-engine oracle: %v; want an error that lists the engines", err)
	}
}

func TestTunedSettingsComeLast(t *testing.T) {
	for dsn, want := range map[string]string{"a.db": "a.db?" + tunedSQLite, "a.db?_fk=1": "a.db?_fk=1&" + tunedSQLite} {
		if got := tunedDSN(target{driver: "sqlite3", dsn: dsn}, "tuned"); got != want {
			t.Errorf("%s: %s, want %s", dsn, got, want)
		}
	}
}

func TestVerdict(t *testing.T) {
	lost := &result{column: "bare", reads: new(measure), writes: new(measure), lost: 10, renames: 100}
	none := &result{column: "dblocker", reads: &measure{ok: 5}, writes: &measure{errors: 1200}}
	want := "bare lost 10.0 % of the renames without an error, gave no error, and took up to 0.00 ms for 99 of 100 writes; " +
		"dblocker lost no update, gave 1,200 errors, and took up to 0.00 ms for 99 of 100 writes."
	if got := verdict([]*result{lost, none}); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for n, want := range map[int]string{0: "0 %", 1: "under 0.1 %", 15: "0.1 %", 10000: "100.0 %"} {
		if got := share(n, 10000); got != want {
			t.Errorf("%d of 10000: %q, want %q", n, got, want)
		}
	}
}

func TestBadDSN(t *testing.T) {
	for dsn, want := range map[string]string{
		"app.db":              "has no colon",
		"sqlite4:app.db":      "unknown inner driver",
		"sqlite3?lock=1:a.db": "unknown option",
	} {
		err := run(t.Context(), config{dsn: dsn, dir: writeTree(t), users: 1, total: time.Second}, &bytes.Buffer{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("-dsn %s: %v; want an error with %q", dsn, err, want)
		}
	}
}

func TestParseTarget(t *testing.T) {
	for dsn, want := range map[string]target{
		"sqlite3:app.db":                       {driver: "sqlite3", dsn: "app.db"},
		"sqlite3://app.db":                     {driver: "sqlite3", dsn: "app.db"},
		"postgres://u:p@h/app":                 {driver: "postgres", dsn: "postgres://u:p@h/app"},
		"postgres?lock_timeout=5s:host=h":      {driver: "postgres", options: "?lock_timeout=5s", dsn: "host=h"},
		"mysql:u:p@tcp(h:1)/app?charset=utf8":  {driver: "mysql", dsn: "u:p@tcp(h:1)/app?charset=utf8"},
		"mysql://u:p%40@h/app?charset=utf8":    {driver: "mysql", dsn: "u:p@@tcp(h:3306)/app?charset=utf8"},
		"mysql?max_open_conns=4:mysql://h:1/a": {driver: "mysql", options: "?max_open_conns=4", dsn: "tcp(h:1)/a"},
	} {
		if got, err := parseTarget(dsn); err != nil || got != want {
			t.Errorf("parseTarget(%q) = %+v, %v; want %+v", dsn, got, err, want)
		}
	}
}

func TestPercentile(t *testing.T) {
	var h histogram
	for i := range 1000 {
		h.add(time.Duration(i+1) * time.Millisecond)
	}
	for p, want := range map[float64]time.Duration{50: 500 * time.Millisecond, 99: 990 * time.Millisecond} {
		if got := h.percentile(p); got < want*95/100 || got > want*105/100 {
			t.Errorf("p%v of 1 ms to 1000 ms = %v; want %v within 5 percent", p, got, want)
		}
	}
}
