package sqlite

import (
	"os"
	"path/filepath"
	"testing"
)

// TestDatabaseIdentity: DSNs in one group open one database, those of different
// groups open different ones.
func TestDatabaseIdentity(t *testing.T) {
	groups := [][]string{
		{"app.db", "file:app.db", "./app.db?_fk=1", "file:app.db?mode=ro", "file:./x/../app.db", "file:app%2Edb#f"},
		{"/app.db", "file:/app.db", "file:///app.db", "file://localhost/app.db"},
		{"app2.db"},
		{"file::memory:?cache=shared", "file::memory:?mode=memory&cache=shared"},
		{"file:a?mode=memory&cache=shared"},
		{"file:/a?vfs=memdb"},
	}
	seen := make(map[string]int)
	for i, group := range groups {
		for _, dsn := range group {
			id := database(dsn)
			if id == "" || id != database(group[0]) {
				t.Errorf("%q is database %q, but %q is %q", dsn, id, group[0], database(group[0]))
			}
			if j, ok := seen[id]; ok && j != i {
				t.Errorf("groups %d and %d are both database %q", i, j, id)
			}
			seen[id] = i
		}
	}
}

// TestRelativePathIsTheAbsoluteOne, whether the file has been made or not.
func TestRelativePathIsTheAbsoluteOne(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, make := range []bool{true, false} {
		want := database(filepath.Join(dir, "a.db"))
		for _, dsn := range []string{"a.db", "file:a.db", "./a.db?_fk=1"} {
			if got := database(dsn); got != want {
				t.Errorf("%s is database %q, want %q", dsn, got, want)
			}
		}
		if make {
			makeFile(t, "a.db")
		}
	}
}

func TestDatabasesWithoutIdentity(t *testing.T) {
	for _, dsn := range []string{":memory:", "file::memory:", "", "file:", "file:a?mode=memory", "file:a?vfs=memdb"} {
		if id := database(dsn); id != "" {
			t.Errorf("sqlite %q: got identity %q, want none", dsn, id)
		}
	}
}

// TestLinkMadeBeforeItsFile: the file is not there when its links are resolved.
func TestLinkMadeBeforeItsFile(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Symlink("b.db", filepath.Join(dir, "a.db")))
	must(t, os.Symlink(filepath.Join(dir, "c.db"), filepath.Join(dir, "b.db")))
	must(t, os.Symlink("loop.db", filepath.Join(dir, "loop.db")))
	want := database(filepath.Join(dir, "c.db"))
	for _, name := range []string{"a.db", "b.db"} {
		if got := database(filepath.Join(dir, name)); got != want {
			t.Errorf("%s is database %q, want %q", name, got, want)
		}
	}
	if got := database(filepath.Join(dir, "loop.db")); filepath.Base(got) != "loop.db" {
		t.Errorf("a link to itself is database %q", got)
	}
}
