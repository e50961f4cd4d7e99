package dblocker_test

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// hostileIDs would do harm in a path or a DSN as they are, or are one on some file system. Those of the last line are too long.
var hostileIDs = []string{
	"..", ".", "../../x", "/etc/passwd", `..\x`, "a/b", "C:x", "~", "a\x00b", "\n", "a\r\nb", " ", "a b", "\x1b[2J",
	"'", `"`, "`", `\`, "' OR 1=1 --", `"; DROP SCHEMA public CASCADE; --`, `"$user",public`, "a,public",
	"?", "?mode=memory", "&sslmode=disable", "a&_journal_mode=OFF", "%", "%2e%2e%2f", "%00", "#x", "a' host='evil", "a host=evil", "@tcp(evil:1)/x", ")", "{user}", "*",
	"con", "nul", "aux.db", "com1", "LPT1.tar.gz", "ser", "nion",
	"ann", "Ann", "ANN", "a-b", "a_b", "a__b", "_a", "-", "u", "u27", "27", "-1",
	"caf\u00e9", "cafe\u0301", "CAF\u00c9", "\u212a", "k", "K", "\u0130", "i", "\xff", "\xc3(", "\u202e",
	strings.Repeat("a", 10<<10), strings.Repeat("../", 100), strings.Repeat("\u00e9", 100),
}

// usePattern has each of the users write down its ID in a database of its own, and then read it: each finds only its own, or gets an error in words that
// says that the ID is too long. It returns how many have a database.
func usePattern(t *testing.T, db *sql.DB, ids []string) (have int) {
	t.Helper()
	tooLong := make(map[string]bool)
	for i, id := range ids {
		for _, q := range []string{"CREATE TABLE own (n INT)", fmt.Sprintf("INSERT INTO own VALUES (%d)", i)} {
			_, err := db.ExecContext(as(t, id), q)
			if errors.Is(err, dblocker.ErrUserID) && strings.Contains(err.Error(), "too long for") && len(err.Error()) < 600 {
				tooLong[id] = true
				break
			}
			if err != nil {
				t.Errorf("%.40q: %v", id, err)
			}
		}
	}
	for i, id := range ids {
		if tooLong[id] {
			continue
		}
		have++
		var n, sum int
		if err := db.QueryRowContext(as(t, id), "SELECT count(*), sum(n) FROM own").Scan(&n, &sum); err != nil || n != 1 || sum != i {
			t.Errorf("%.40q has %d rows, of the sum %d, %v; want its own, with %d", id, n, sum, err, i)
		}
	}
	return have
}

// TestHostileIDsOnFiles: each has a file of its own, in the directory of the pattern, in paths and URIs.
func TestHostileIDsOnFiles(t *testing.T) {
	for _, pattern := range []string{"%s/{user}.db", "file:%s/{user}.db?_busy_timeout=5000", "%s/{user}/{user}"} {
		dir := t.TempDir()
		db, err := sql.Open("dblocker", "sqlite3?max_open_databases=10:"+strings.Replace(pattern, "%s", filepath.Join(dir, "in"), 1))
		if err != nil {
			t.Fatal(err)
		}
		have := usePattern(t, db, hostileIDs)
		if want := len(hostileIDs) - 3; have != want {
			t.Errorf("%s: %d have a database, want %d", pattern, have, want)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		files, err := os.ReadDir(filepath.Join(dir, "in"))
		if err != nil || len(files) != have {
			t.Errorf("%s: %d users have %d files, %v", pattern, have, len(files), err)
		}
		folded := make(map[string]bool)
		for _, f := range files {
			folded[strings.ToUpper(f.Name())] = true
			if _, ok := dblocker.UserOf(strings.TrimSuffix(f.Name(), ".db")); !ok {
				t.Errorf("%s: there is %s", pattern, f.Name())
			}
		}
		if len(folded) != have {
			t.Errorf("%s: where case is folded, %d users have %d files", pattern, have, len(folded))
		}
		if beside, _ := os.ReadDir(dir); len(beside) != 1 {
			t.Errorf("%s: there is something outside: %v", pattern, beside)
		}
	}
}

// TestHostileIDsOnPostgreSQL: each has a schema, or a database, of its own; none changes what else the DSN says.
func TestHostileIDsOnPostgreSQL(t *testing.T) {
	server := testdb.Postgres(t)
	one := server.NewDatabase(t)
	admin, err := sql.Open("postgres", one.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	create := func(what, around string, ids []string) (created int) {
		for _, id := range ids {
			name, err := dblocker.DatabaseName(id)
			if err != nil {
				t.Fatal(err)
			}
			if name = fmt.Sprintf(around, name); len(name) > 63 {
				continue
			}
			if _, err := admin.Exec(fmt.Sprintf("CREATE %s %q", what, name)); err != nil {
				t.Fatalf("%q: %v", id, err)
			}
			if what == "DATABASE" {
				t.Cleanup(func() { dropDatabase(t, one.DSN(), name) })
			}
			created++
		}
		return created
	}
	schemas := create("SCHEMA", "%s", hostileIDs)
	few := []string{"../x", "a' host='evil", "a&sslmode=require", "Ann", "ann", strings.Repeat("a", 99)}
	prefix := fmt.Sprintf("dblocker_ids_%d_", os.Getpid())
	databases := create("DATABASE", prefix+"%s", few)
	in := &testdb.Database{Server: server, Name: prefix + "{user}"}
	if schemas < len(hostileIDs)-5 || databases != len(few)-1 {
		t.Errorf("%d schemas and %d databases: the others' names are too long?", schemas, databases)
	}
	for _, c := range []struct {
		dsn  string
		ids  []string
		want int
	}{
		{"postgres?max_open_databases=4&max_open_conns=4:" + one.DSN() + " search_path={user}", hostileIDs, schemas},
		{"postgres?max_open_databases=4&max_open_conns=4:" + in.DSN(), few, databases},
	} {
		db, err := sql.Open("dblocker", c.dsn)
		if err != nil {
			t.Fatal(err)
		}
		if have := usePattern(t, db, c.ids); have != c.want {
			t.Errorf("%d have a database, want %d", have, c.want)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

func dropDatabase(t *testing.T, dsn, name string) {
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(fmt.Sprintf("DROP DATABASE %q WITH (FORCE)", name)); err != nil {
		t.Error(err)
	}
}

// TestHostileIDsOnMariaDB: each has a database of its own.
func TestHostileIDsOnMariaDB(t *testing.T) {
	server := testdb.MySQL(t)
	one := server.NewDatabase(t)
	admin, err := sql.Open("mysql", one.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	ids := []string{"..", "a/b", "a\x00b", "'", "`", "@tcp(evil:1)/x", "?charset=x", "&multiStatements=true", "Ann", "ann", "con", "ser", "caf\u00e9", "cafe\u0301", strings.Repeat("A", 40)}
	prefix, want := fmt.Sprintf("dblids_%d_", os.Getpid()), 0
	for _, id := range ids {
		name, err := dblocker.DatabaseName(id)
		if err != nil {
			t.Fatal(err)
		}
		if name = prefix + name; len(name) > 64 {
			continue
		}
		want++
		if _, err := admin.Exec("CREATE DATABASE `" + name + "`"); err != nil {
			t.Fatalf("%q: %v", id, err)
		}
		defer admin.Exec("DROP DATABASE `" + name + "`")
	}
	db, err := sql.Open("dblocker", "mysql?max_open_databases=4:"+(&testdb.Database{Server: server, Name: prefix + "{user}"}).DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if have := usePattern(t, db, ids); have != want || have != len(ids)-1 {
		t.Errorf("%d have a database, want %d", have, want)
	}
	_, err = db.ExecContext(as(t, "unknown"), "SELECT 1")
	if err == nil {
		t.Error("a user without a database: no error")
	}
}

// TestIDsOfDevices: text before {user} that makes the name of a device of it is an error for that user only.
func TestIDsOfDevices(t *testing.T) {
	db, err := sql.Open("dblocker", "sqlite3:"+filepath.Join(t.TempDir(), "a{user}.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(as(t, "x"), "CREATE TABLE t (n)"); err == nil || !strings.Contains(err.Error(), "Windows") || errors.Is(err, dblocker.ErrNoDatabase) {
		t.Errorf("aux.db: %v", err)
	}
	if _, err := db.ExecContext(as(t, "y"), "CREATE TABLE t (n)"); err != nil {
		t.Error(err)
	}
}
