package sqlite

import (
	"context"
	"database/sql"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/mattn/go-sqlite3"

	"github.com/calmdocs/dblocker/internal/testdb"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A reading is what a SQLite DSN means, found out by experiment.
type reading struct {
	file      string // "" if there is none
	readOnly  bool
	immutable bool // read although somebody has it locked
	shared    bool // connections lock each other's tables
}

// readBySQLite asks SQLite what a DSN for the bare driver means. dir has the files of
// uriPaths, with a table t.
func readBySQLite(t *testing.T, dir, dsn string) (r reading, err error) {
	t.Helper()
	ctx := context.Background()
	db, err := sql.Open("sqlite3", dsn)
	must(t, err)
	defer db.Close()
	one, err := db.Conn(ctx)
	if err != nil {
		return r, err
	}
	defer one.Close()
	two, err := db.Conn(ctx)
	if err != nil {
		return r, err
	}
	defer two.Close()
	for _, c := range []*sql.Conn{one, two} {
		if _, err := c.ExecContext(ctx, "PRAGMA busy_timeout = 0"); err != nil {
			return r, err
		}
	}
	if err := one.QueryRowContext(ctx, "PRAGMA database_list").Scan(new(int), new(string), &r.file); err != nil {
		return r, err
	}
	count := func(c *sql.Conn) error { return c.QueryRowContext(ctx, "SELECT COUNT(*) FROM t").Scan(new(int)) }
	if r.file != "" && count(one) == nil {
		other, err := sql.Open("sqlite3", uriOf(r.file))
		must(t, err)
		_, err = other.Exec("BEGIN EXCLUSIVE; SELECT 1")
		must(t, err)
		r.immutable = count(one) == nil
		must(t, other.Close())
	}
	_, err = one.ExecContext(ctx, "BEGIN IMMEDIATE; CREATE TABLE IF NOT EXISTS w (v); INSERT INTO w VALUES (1)")
	if r.readOnly = err != nil && strings.Contains(err.Error(), "readonly"); !r.readOnly && err != nil {
		return r, err
	}
	err = two.QueryRowContext(ctx, "SELECT COUNT(*) FROM sqlite_master").Scan(new(int))
	r.shared = err != nil && strings.Contains(err.Error(), "schema is locked")
	one.ExecContext(ctx, "ROLLBACK")
	return r, nil
}

// read is what we take a DSN to mean.
func (d *dsn) reading() reading {
	r := reading{readOnly: d.last("mode") == "ro" || d.isImmutable(), shared: d.last("cache") == "shared"}
	switch d.kind() {
	case kindFile:
		r.file, r.immutable = d.path, d.isImmutable()
	case kindTemporary:
		r.shared = false
	}
	return r
}

// uriPaths are spellings of DIR/a, DIR/a.db and DIR/a#.db, and names in memory.
var (
	uriPaths = []string{
		"DIR/a.db", "DIR/a%2edb", "DIR/a%2Edb", "DIR/a%00b.db", "DIR/a.db%00%41", "DIR/a#.db", "DIR/a%23.db", "//DIR/a.db", "//localhostDIR/a.db",
		"DIR/a.db#?mode=ro", "DIR/a.db#", ":memory:", "%3amemory:", "", "x", "/y",
	}
	uriQueries = []string{
		"mode=ro", "mode=rw", "mode=rwc", "mode=memory", "mode=r%6f", "mode=ro%00x", "mo%64e=ro", "MODE=ro", "mode%00=ro", "x=?mode=ro", "cache=shared", "cache=private", "cache%00=shared",
		"immutable=1", "immutable=0", "immutable=yes", "immutable=ON", "immutable=2x", "immutable=0x10", "immutable=256", "immutable", "immutable=-1", "immutable=+1",
		"vfs=unix", "vfs=memdb", "psow=1", "x=1", "x=%00", "", "", "#", "#mode=ro", "x#", "_fk=1",
	}
)

// TestSQLiteURIsMeanWhatSQLiteSays: of each DSN we know what SQLite opens, and what the driver
// is given means the same; but connections never share the cache of a file.
func TestSQLiteURIsMeanWhatSQLiteSays(t *testing.T) {
	testdb.NoLeaks(t)
	t.Chdir(t.TempDir())
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	random := rand.New(rand.NewPCG(1, 2))
	asked := 0
	for range 2000 {
		dsn := "file:" + uriPaths[random.IntN(len(uriPaths))]
		var query []string
		for range random.IntN(4) {
			query = append(query, uriQueries[random.IntN(len(uriQueries))])
		}
		if query != nil {
			dsn += "?" + strings.Join(query, "&")
		}
		asked += compareReadings(t, dir, dsn)
	}
	if asked < 300 {
		t.Errorf("SQLite has opened %d of them only", asked)
	}
}

// compareReadings returns 1 if the bare driver could open the DSN.
func compareReadings(t *testing.T, dir, template string) int {
	t.Helper()
	prepare := func() {
		for _, name := range []string{"a", "a.db", "a#.db"} {
			os.Remove(filepath.Join(dir, name))
			makeFile(t, filepath.Join(dir, name))
		}
		for _, name := range []string{"x", "/y"} {
			os.Remove(name)
		}
	}
	dsn := strings.ReplaceAll(template, "DIR", dir)
	d := parse(dsn, findLibrary(mattnPkg))
	if strings.HasPrefix(d.path, "/y") && d.kind() == kindFile {
		return 0
	}
	prepare()
	bare, err := readBySQLite(t, dir, dsn)
	if err != nil {
		return 0
	}
	want := d.reading()
	if want.file != "" {
		want.file, _ = filepath.Abs(want.file)
	}
	if bare.readOnly { // then the experiment shows no more
		want.shared = bare.shared
	}
	if bare != want {
		t.Errorf("%s: it means %+v to SQLite, and %+v to us", template, bare, want)
	}
	if bare.file != "" {
		bare.shared = false
	}
	if d.kind() == kindMemory {
		bare.shared, bare.readOnly = false, false // it becomes one of the handle
	}
	prepare()
	given := d.forDriver()
	got, err := readBySQLite(t, dir, given)
	if err != nil || got != bare {
		t.Errorf("%s: the driver is given %s, which means %+v (%v), want %+v", template, given, got, err, bare)
	}
	return 1
}

// makeFile makes a file with a table t.
func makeFile(t *testing.T, path string) {
	t.Helper()
	db, err := sql.Open("sqlite3", uriOf(path)+"?_journal_mode=MEMORY&_sync=OFF")
	must(t, err)
	defer db.Close()
	_, err = db.Exec("CREATE TABLE t (v)")
	must(t, err)
}
