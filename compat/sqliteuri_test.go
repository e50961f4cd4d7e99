package compat

import (
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// TestSQLiteURIsMeanTheSame: a URI opens the file that the bare driver opens, and lets write
// what that lets, with both drivers.
func TestSQLiteURIsMeanTheSame(t *testing.T) {
	testdb.NoLeaks(t)
	for _, driver := range []string{"sqlite3", "sqlite"} {
		for _, uri := range []string{
			"file:DIR/a.db", "file:DIR/a.db?mode=ro", "file:DIR/a.db#x?mode=ro", "file:DIR/a.db?mode=ro#x", "file:DIR/a#b.db?immutable=1", "file:DIR/a%23b.db", "file:DIR/a%00b.db?mode=ro",
			"file:DIR/a%4.db", "file://localhostDIR/a.db", "file://otherDIR/a.db", "file://DIR/a.db?mode=r%6f", "file:DIR/a.db?mode=ro&mode=rwc", "file:DIR/a.db?mode=rwc&mode=ro", "file:DIR/a.db?mode=+ro",
			"file:DIR/a.db?immutable=1&immutable=0", "file:DIR/a.db?immutable=0&immutable=1", "file:DIR/a.db?cache=shared", "file:DIR/a.db?cache=bad", "file:DIR/a.db??mode=ro", "file:DIR/a.db#?vfs=nope", "file:DIR/none/a.db",
		} {
			bare, bareErr := readURI(t, driver, uri)
			ours, oursErr := readURI(t, driver+"-dblocker", uri)
			if ours != bare || (oursErr == nil) != (bareErr == nil) {
				t.Errorf("%s %s: %+v, %v; on the bare driver %+v, %v", driver, uri, ours, oursErr, bare, bareErr)
			}
		}
	}
}

type uriReading struct {
	file     string
	readOnly bool
	made     string // the files that are there afterwards
}

func readURI(t *testing.T, driver, uri string) (r uriReading, err error) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"a", "a.db"} {
		bare := open(t, "sqlite3", filepath.Join(dir, name))
		if _, err := bare.Exec("CREATE TABLE t (v)"); err != nil {
			t.Fatal(err)
		}
		bare.Close()
	}
	db, err := sql.Open(driver, strings.ReplaceAll(uri, "DIR", dir))
	if err != nil {
		return r, err
	}
	defer db.Close()
	if err := db.QueryRow("PRAGMA database_list").Scan(new(int), new(string), &r.file); err != nil {
		return r, err
	}
	_, err = db.Exec("CREATE TABLE w (v)")
	r.readOnly = err != nil && strings.Contains(err.Error(), "readonly")
	db.Close()
	r.file = strings.ReplaceAll(r.file, dir, "DIR")
	files, _ := os.ReadDir(dir)
	for _, f := range files {
		r.made += f.Name() + " "
	}
	return r, nil
}
