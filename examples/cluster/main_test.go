package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// TestMain makes of a copy of the test binary one of the three processes.
func TestMain(m *testing.M) {
	if os.Getenv(workerName) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// runCluster runs the program and returns what it printed.
func runCluster(t *testing.T, cfg config) string {
	t.Helper()
	testdb.NoLeaks(t)
	cfg.total = time.Second
	var out bytes.Buffer
	if err := run(t.Context(), cfg, &out); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for _, part := range []string{"process B is killed", "confirmed", "ann", "lost updates: "} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("it does not say %q:\n%s", part, &out)
		}
	}
	return out.String()
}

// TestNoUpdateIsLost although a process is killed.
func TestNoUpdateIsLost(t *testing.T) {
	for engine, dsn := range map[string]func(t *testing.T) string{
		"SQLite":     func(*testing.T) string { return "" },
		"PostgreSQL": func(t *testing.T) string { return testdb.Postgres(t).NewDatabase(t).URL() },
		"MariaDB":    func(t *testing.T) string { return testdb.MySQL(t).NewDatabase(t).URL() },
	} {
		t.Run(engine, func(t *testing.T) {
			if out := runCluster(t, config{dsn: dsn(t), scope: "database"}); !strings.HasSuffix(out, "lost updates: 0\n") || strings.Contains(out, " 0\nbob") {
				t.Errorf("want updates, and none lost:\n%s", out)
			}
		})
	}
}

// TestUpdatesAreLost where locks end with the process: else the other test would prove nothing.
func TestUpdatesAreLost(t *testing.T) {
	if out := runCluster(t, config{scope: "process"}); strings.HasSuffix(out, "lost updates: 0\n") {
		t.Errorf("want lost updates:\n%s", out)
	}
}

func TestWithOption(t *testing.T) {
	for dsn, want := range map[string]string{
		"sqlite3:app.db":              "sqlite3?a=1:app.db",
		"pgx?max_open_conns=4:host=h": "pgx?max_open_conns=4&a=1:host=h",
		"postgres://u:p@h/db":         "postgres?a=1:postgres://u:p@h/db",
	} {
		if got := withOption(dsn, "a=1"); got != want {
			t.Errorf("%s: %s, want %s", dsn, got, want)
		}
	}
}
