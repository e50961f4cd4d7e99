package testdb

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// servers are the two engines by what a test calls.
var servers = []struct {
	name    string
	engine  *Engine
	driver  string
	shared  func(testing.TB) *Server
	private func(testing.TB) *PrivateServer
}{
	{"postgres", PostgreSQL, "postgres", Postgres, PrivatePostgres},
	{"mysql", MariaDB, "mysql", MySQL, PrivateMySQL},
}

// dsns are all the forms of d that the bare driver takes.
func dsns(d *Database) []string {
	if d.Server.Engine == PostgreSQL {
		return []string{d.DSN(), d.URL()}
	}
	return []string{d.DSN()}
}

func open(t testing.TB, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func mustExec(t testing.TB, db *sql.DB, query string) {
	t.Helper()
	if _, err := db.Exec(query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func TestDatabaseIsFreshAndDropped(t *testing.T) {
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) {
			NoLeaks(t)
			var name string
			for range 2 {
				t.Run("use", func(t *testing.T) {
					d := s.shared(t).NewDatabase(t)
					for _, dsn := range dsns(d) {
						mustExec(t, open(t, s.driver, dsn), "SELECT 1")
					}
					mustExec(t, open(t, s.driver, d.DSN()), "CREATE TABLE not_there_yet (id int)")
					name = d.Name
				})
			}
			dropped := &Database{Server: s.shared(t), Name: name}
			if err := open(t, s.driver, dropped.DSN()).Ping(); err == nil {
				t.Errorf("%s is still there after its test", name)
			}
		})
	}
}

func TestConnectionLeftOpenIsReported(t *testing.T) {
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) {
			NoLeaks(t)
			inner := &recorder{TB: t}
			d := s.shared(t).NewDatabase(inner)
			mustExec(t, open(t, s.driver, d.DSN()), "SELECT 1")
			inner.end()
			if !strings.Contains(inner.failures, "left 1 connections open to "+d.Name) {
				t.Errorf("a connection was left open, reported was %q", inner.failures)
			}
		})
	}
}

func TestKillSessions(t *testing.T) {
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) {
			NoLeaks(t)
			d := s.shared(t).NewDatabase(t)
			tx, err := open(t, s.driver, d.DSN()).Begin()
			if err != nil {
				t.Fatal(err)
			}
			defer tx.Rollback()
			if got := d.Sessions(t); len(got) != 1 {
				t.Fatalf("one connection is open, the server lists %v", got)
			}
			d.KillSessions(t)
			if _, err := tx.Exec("SELECT 1"); err == nil {
				t.Error("the connection of a transaction works after KillSessions")
			}
		})
	}
}

func TestPrivateServerKeepsDataThroughRestartAndKill(t *testing.T) {
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) {
			NoLeaks(t)
			server := s.private(t)
			db := open(t, s.driver, server.NewDatabase(t).DSN())
			mustExec(t, db, "CREATE TABLE kept (id int PRIMARY KEY)")

			for i, interrupt := range []func(testing.TB){server.Restart, server.Kill} {
				mustExec(t, db, fmt.Sprintf("INSERT INTO kept VALUES (%d)", i))
				interrupt(t)
			}
			if err := db.Ping(); err == nil {
				t.Error("the killed server answers")
			}
			server.Start(t)
			var n int
			if err := db.QueryRow("SELECT count(*) FROM kept").Scan(&n); err != nil || n != 2 {
				t.Errorf("after a restart and a kill: %d rows of 2, error %v", n, err)
			}
		})
	}
}

func TestPrivateServerLeavesNothing(t *testing.T) {
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) {
			NoLeaks(t)
			p, err := Launch(s.engine)
			require(t, err)
			if err := p.Close(); err != nil {
				t.Error(err)
			}
			if p.process.running() {
				t.Error("the server is running after Close")
			}
			if _, err := os.Stat(p.cluster.dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s is there after Close: %v", p.cluster.dir, err)
			}
		})
	}
}

func TestTestMayLeaveItsServerStopped(t *testing.T) {
	NoLeaks(t)
	p := PrivatePostgres(t)
	p.NewDatabase(t)
	p.Stop(t)
}

func TestSQLiteFilesAreDistinctAndNew(t *testing.T) {
	a, b := SQLite(t), SQLite(t)
	if a == b {
		t.Errorf("the same file twice: %s", a)
	}
	if _, err := os.Stat(a); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s should not exist yet: %v", a, err)
	}
}

func TestNoLeaksReportsGoroutine(t *testing.T) {
	inner := &recorder{TB: t}
	NoLeaks(inner)
	stop := make(chan struct{})
	defer close(stop)
	go leakedForTest(stop)
	inner.end()
	if !strings.Contains(inner.failures, "leakedForTest") {
		t.Errorf("the goroutine is not named in %q", inner.failures)
	}
}

func leakedForTest(stop chan struct{}) { <-stop }

func TestAbsentServer(t *testing.T) {
	absent := PostgreSQL.notInstalled()
	for _, c := range []struct {
		ci   string
		err  error
		want string
	}{
		{"", nil, ""},
		{"", absent, "skip"},
		{"true", absent, "fatal"},
		{"", errors.New("broken"), "fatal"},
	} {
		t.Setenv("CI", c.ci)
		inner := &recorder{TB: t}
		require(inner, c.err)
		if inner.ended != c.want {
			t.Errorf("CI=%q, %v: %q, want %q", c.ci, c.err, inner.ended, c.want)
		}
	}
}

func TestServerFromEnv(t *testing.T) {
	for _, c := range []struct {
		engine        *Engine
		env, url, dsn string
	}{
		{PostgreSQL, "postgres://u:p%40@h:99/x?sslmode=disable", "postgres://u:p%40@h:99/db?sslmode=disable",
			"host='h' port='99' user='u' password='p@' dbname='db' sslmode='disable'"},
		{PostgreSQL, "postgresql://u@[::1]", "postgres://u:@[::1]:5432/db", "host='::1' port='5432' user='u' password='' dbname='db'"},
		{MariaDB, "u:p@/x@tcp(h:99)/x?tls=false", "mysql://u:p%40%2Fx@h:99/db?tls=false", "u:p@/x@tcp(h:99)/db?tls=false"},
		{MariaDB, "mysql://u:p@h", "mysql://u:p@h:3306/db", "u:p@tcp(h:3306)/db"},
	} {
		t.Setenv(c.engine.Env, c.env)
		s, err := c.engine.FromEnv()
		if err != nil {
			t.Errorf("%s: %v", c.env, err)
			continue
		}
		d := &Database{Server: s, Name: "db"}
		if d.URL() != c.url || d.DSN() != c.dsn {
			t.Errorf("%s:\n got %s and %s\nwant %s and %s", c.env, d.URL(), d.DSN(), c.url, c.dsn)
		}
	}
}

func TestBadEnvNamesTheVariableAndNotThePassword(t *testing.T) {
	for _, c := range []struct {
		engine *Engine
		env    string
	}{
		{PostgreSQL, "host=h password=secret"},
		{PostgreSQL, "mysql://u:secret@h/"},
		{PostgreSQL, "postgres://u:secret@h:port/"},
		{MariaDB, "u:secret@unix(/tmp/sock)/"},
		{MariaDB, "u:secret@tcp(h:1)"},
		{MariaDB, "mysql://u:secret@h:port/"},
	} {
		t.Setenv(c.engine.Env, c.env)
		_, err := c.engine.FromEnv()
		if err == nil || !strings.Contains(err.Error(), c.engine.Env) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", c.env, err)
		}
	}
}

func TestUnpackedProgramsArePreferred(t *testing.T) {
	root := filepath.Join(t.TempDir(), "postgresql")
	bin := filepath.Join(root, "usr/lib/postgresql/99/bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{"initdb", "postgres"} {
		if err := os.WriteFile(filepath.Join(bin, program), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv(IgnoreInstalled, "1")
	t.Setenv(Unpacked, "")
	if got := PostgreSQL.Installed(); canLaunch && got != "" {
		t.Errorf("%s is not ignored", got)
	}
	t.Setenv(Unpacked, filepath.Join(t.TempDir(), "mariadb")+string(filepath.ListSeparator)+root)
	if got, want := PostgreSQL.Installed(), filepath.Join(bin, "postgres"); canLaunch && got != want {
		t.Errorf("%s is used, want the unpacked %s", got, want)
	}
}
