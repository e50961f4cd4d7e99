//go:build unix

package main

import (
	"path/filepath"
	"testing"

	"github.com/calmdocs/dblocker/internal/testdb"
)

func TestRootIsTestedBesideTheOthers(t *testing.T) {
	modules := []testModule{{"r", "dblocker"}, {"a", "a"}, {"b", "b"}}
	for _, c := range []struct {
		named string
		flags []string
		lanes int
	}{
		{"", nil, 2},
		{"", []string{"-race", "-count=1", "-run=TestV"}, 2},
		{"", []string{"-race", "-v"}, 1},
		{"", []string{"-bench", "."}, 1},
		{"", []string{"-p=1"}, 1},
		{"", []string{"-json"}, 1},
		{"postgres://u@h/d", nil, 1},
	} {
		t.Setenv(testdb.MariaDB.Env, "")
		t.Setenv(testdb.PostgreSQL.Env, c.named)
		if lanes := lanesOf(modules, c.flags); len(lanes) != c.lanes {
			t.Errorf("%q with a server %q: lanes %v, want %d", c.flags, c.named, lanes, c.lanes)
		}
	}
	if lanes := lanesOf(modules[:1], nil); len(lanes) != 1 {
		t.Errorf("one module: lanes %v", lanes)
	}
}

// TestLanes: each test waits for the other's.
func TestLanes(t *testing.T) {
	testdb.NoLeaks(t)
	silence(t)
	offline(t)
	t.Setenv("CI", "")
	shared := t.TempDir()
	meet := func(mine, other string) testModule {
		return testModule{newModule(t, `func Test(t *testing.T) {
			os.WriteFile("`+filepath.Join(shared, mine)+`", nil, 0o644)
			for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
				if _, err := os.Stat("`+filepath.Join(shared, other)+`"); err == nil { return }
				if time.Now().After(deadline) { t.Fatal("nobody came") }
			}
		}`), mine}
	}
	s := new(summary)
	flags := []string{"-count=1"}
	if status := testLanes(t.Context(), []lane{{meet("a", "b")}, {meet("b", "a")}}, flags, s); status != 0 || len(s.tested) != 2 {
		t.Errorf("status %d, tested %v", status, s.tested)
	}
	fails := testModule{newModule(t, `func Test(t *testing.T) { t.Fatal("told to") }`), "fails"}
	passes := testModule{newModule(t, `func Test(t *testing.T) {}`), "passes"}
	s = new(summary)
	if status := testLanes(t.Context(), []lane{{fails, passes}, {passes}}, flags, s); status != 1 || len(s.tested) != 3 {
		t.Errorf("a test that fails: status %d, tested %v", status, s.tested)
	}
}
