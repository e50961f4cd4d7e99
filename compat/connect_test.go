package compat

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// nobody is an address that nobody listens at. Of the ports that are handed out, one that
// is free now may be another test's soon.
const nobody = "127.0.0.1:1"

const password = "s3cr3t-p4ssw0rd"

// badDSNs do not lead to a database. An address in them is one at which nobody
// listens; server stands for a good DSN.
var badDSNs = []struct {
	name    string
	drivers string
	dsn     func(server, nobody string) string
}{
	{"wrong password, URL", "postgres pgx", func(s, _ string) string {
		return "postgres://dblocker:" + password + "@" + keyword(s, "host") + ":" + keyword(s, "port") + "/postgres?sslmode=disable"
	}},
	{"wrong password, keywords", "postgres pgx", func(s, _ string) string { return s + " password='" + password + "'" }},
	{"unreachable, URL", "postgres pgx", func(_, nobody string) string {
		return "postgres://u:" + password + "@" + nobody + "/db?sslmode=disable"
	}},
	{"port is no number, URL", "postgres pgx", func(string, string) string { return "postgres://u:" + password + "@localhost:port/db" }},
	{"port is no number, keywords", "postgres pgx", func(string, string) string { return "host=localhost port=x password=" + password }},
	{"bad escape in the password", "postgres pgx", func(string, string) string { return "postgres://u:%zz" + password + "@localhost/db" }},
	{"bad sslmode", "postgres pgx", func(string, string) string { return "host=localhost sslmode=perhaps password=" + password }},
	{"unknown parameter", "postgres pgx", func(s, _ string) string { return s + " no_such_parameter=1" }},
	{"no such database", "postgres pgx", func(s, _ string) string { return s + " dbname=nowhere" }},
	{"unfinished quote", "postgres pgx", func(string, string) string { return "host=localhost password='" + password }},

	{"wrong password", "mysql", func(s, _ string) string { return "dblocker:" + password + s[strings.LastIndex(s, "@"):] }},
	{"unreachable", "mysql", func(_, nobody string) string { return "u:" + password + "@tcp(" + nobody + ")/db" }},
	{"no slash", "mysql", func(_, nobody string) string { return "u:" + password + "@tcp(" + nobody + ")" }},
	{"unknown network", "mysql", func(_, nobody string) string { return "u:" + password + "@nowhere(" + nobody + ")/db" }},
	{"bad parameter", "mysql", func(s, _ string) string { return s + "?timeout=soon" }},
	{"no such database", "mysql", func(s, _ string) string { return s + "_nowhere" }},

	{"no such directory", "sqlite3 sqlite", func(string, string) string { return "/nowhere/at/all.db" }},
	{"a directory", "sqlite3 sqlite", func(string, string) string { return "/" }},
	{"bad parameter", "sqlite3", func(s, _ string) string { return sqlite3BadParameter(s) }},
	{"bad pragma", "sqlite", func(s, _ string) string { return s + "?_pragma=journal_mode(" }},
	{"read-only and absent", "sqlite3", func(s, _ string) string { return "file:" + s + "?mode=ro" }},
}

// keyword finds the value of a keyword in a PostgreSQL DSN.
func keyword(dsn, name string) string {
	_, value, _ := strings.Cut(dsn, name+"='")
	value, _, _ = strings.Cut(value, "'")
	return value
}

// TestConnectErrors expects the inner driver's own error. Passwords stay out of
// it unless the driver itself shows them: then they are struck out.
func TestConnectErrors(t *testing.T) {
	mysql.SetLogger(&mysql.NopLogger{})
	for _, d := range mainDrivers(sqliteEngine, postgresEngine, mysqlEngine) {
		t.Run(d.title, func(t *testing.T) {
			testdb.NoLeaks(t)
			server := d.engine.database(t)
			for _, bad := range badDSNs {
				if !strings.Contains(" "+bad.drivers+" ", " "+d.name+" ") {
					continue
				}
				t.Run(bad.name, func(t *testing.T) { compareConnectErrors(t, d.name, bad.dsn(server, nobody)) })
			}
		})
	}
}

func compareConnectErrors(t *testing.T, name, dsn string) {
	bare := connectError(t, name, dsn)
	if bare == nil {
		t.Fatal("the bare driver connects")
	}
	for form, err := range map[string]error{
		"name form": connectError(t, name+"-dblocker", dsn),
		"DSN form":  connectError(t, "dblocker", name+":"+dsn),
	} {
		if err == nil {
			t.Errorf("%s: no error, the bare driver has %v", form, bare)
			continue
		}
		if strings.Contains(bare.Error(), password) {
			err = redacted(t, form, err)
		}
		if got, want := hide(describeError(err)), hide(describeError(bare)); got != want {
			t.Errorf("%s:\nbare: %s\n got: %s", form, want, got)
		}
	}
}

// redacted returns the driver's own error, whose text shows the password, from
// within the error whose text does not.
func redacted(t *testing.T, form string, err error) error {
	t.Helper()
	if text := err.Error(); strings.Contains(text, password) || !strings.Contains(text, "xxxxx") {
		t.Errorf("%s: the password is not struck out of %s", form, text)
	}
	return errors.Unwrap(err)
}

func connectError(t *testing.T, driver, dsn string) error {
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err = db.ExecContext(ctx, "SELECT 1")
	return err
}

// TestConnReachesTheServerWithItsFirstStatement states a difference that no step
// of the script can show: db.Conn fails on the bare driver if the server cannot be
// reached. A connection of ours costs nothing until it is used, so there the first
// statement fails, with the same error.
func TestConnReachesTheServerWithItsFirstStatement(t *testing.T) {
	mysql.SetLogger(&mysql.NopLogger{})
	for driver, dsn := range map[string]string{
		"postgres": "postgres://u@" + nobody + "/db?sslmode=disable",
		"pgx":      "postgres://u@" + nobody + "/db?sslmode=disable",
		"mysql":    "u@tcp(" + nobody + ")/db",
	} {
		t.Run(driver, func(t *testing.T) {
			testdb.NoLeaks(t)
			_, bare := open(t, driver, dsn).Conn(t.Context())
			conn, err := open(t, driver+"-dblocker", dsn).Conn(t.Context())
			if err != nil {
				t.Fatalf("db.Conn: %v", err)
			}
			defer conn.Close()
			err = conn.PingContext(t.Context())
			if bare == nil || describeError(err) != describeError(bare) {
				t.Errorf("the bare db.Conn fails with %s\nthe first use of ours with %s", describeError(bare), describeError(err))
			}
		})
	}
}
