package dblocker

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/calmdocs/dblocker/internal/sqltext"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// TestAttachedPath: which files the ATTACHes of a text name.
func TestAttachedPath(t *testing.T) {
	args := []driver.NamedValue{
		{Ordinal: 1, Value: "/dir/a.db"}, {Ordinal: 2, Value: []byte("/dir/b.db")},
		{Ordinal: 3, Name: "c", Value: "/dir/c.db"}, {Ordinal: 4, Value: int64(4)},
	}
	for text, want := range map[string]string{
		"ATTACH '/dir/a.db' AS o":                        "/dir/a.db",
		" \n attach database '/dir/it''s.db' as o; DROP": "/dir/it's.db",
		"ATTACH 'file:/dir/a%20b.db?mode=ro' AS o":       "/dir/a b.db",
		"ATTACH '/dir/a' AS a; ATTACH [/dir/b] AS b":     "/dir/a /dir/b",
		"ATTACH ? AS o":                         "/dir/a.db",
		"ATTACH DATABASE :path AS o":            "/dir/a.db",
		"ATTACH ?2 AS o":                        "/dir/b.db",
		"ATTACH @c AS o":                        "/dir/c.db",
		"SELECT ?; ATTACH ? AS o":               "/dir/b.db",
		"SELECT ?1, ?2, ?3, ?4; ATTACH ?1 AS o": "/dir/a.db",
		"SELECT ?, ?, ?; ATTACH ? AS o":         "",
		"ATTACH ?5 AS o":                        "",
		"ATTACH ?9223372036854775807 AS o":      "",
		"ATTACH ':memory:' AS o":                "",
		"ATTACH 'file:x?mode=memory' AS o":      "",
		"ATTACH '' AS o":                        "",
	} {
		var got []string
		for _, a := range sqltext.Attaches(text) {
			got = append(got, attachedPath(a, args))
		}
		if got := strings.Join(got, " "); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

// TestAttachWaits: wherever an ATTACH stands in its text, and however it names the file, it waits
// for who writes to that, and is not told of SQLite's locks.
func TestAttachWaits(t *testing.T) {
	for _, attach := range []string{
		"ATTACH '%' AS o",
		"/* app */ ATTACH '%' AS o",
		"-- app\nATTACH DATABASE /* which */ \"%\" AS o",
		"\uFEFFATTACH [%] AS o",
		"SELECT 1; ATTACH '%' AS o",
		"UPDATE counters SET n = 1;; -- next\n ATTACH `%` AS o",
		"ATTACH ':memory:' AS m; ATTACH '%' AS o",
		"/* app */ ATTACH ? AS o",
		"SELECT ?; ATTACH :file AS o",
	} {
		for name, run := range map[string]func(*sql.Conn, string, ...any) error{"Exec": execOn, "Query": queryOn, "Stmt": prepareOn} {
			if name == "Stmt" && strings.Contains(attach, ";") {
				continue // the driver prepares the first statement only
			}
			t.Run(name+" "+attach, func(t *testing.T) {
				testdb.NoLeaks(t)
				paths := attachedFiles(t, [2]string{"DELETE", "DELETE"})
				a, b := openSQLite(t, "dblocker", "sqlite3?lock_timeout=0:"+paths[0]+"?_busy_timeout=0"), openSQLite(t, "dblocker", "sqlite3:"+paths[1])
				defer b.Close()
				defer a.Close()
				writer, err := b.Conn(context.Background())
				must(t, err)
				defer writer.Close()
				mustExec(t, writer, "BEGIN EXCLUSIVE")
				conn, err := a.Conn(context.Background())
				must(t, err)
				defer conn.Close()
				args := slices.Repeat([]any{paths[1]}, strings.Count(attach, "?")+strings.Count(attach, ":file"))
				text := strings.ReplaceAll(attach, "%", paths[1])
				if err := run(conn, text, args...); !errors.Is(err, ErrLockTimeout) {
					t.Errorf("beside a writer: got %v, want ErrLockTimeout", err)
				}
				mustExec(t, writer, "COMMIT")
				must(t, run(conn, text, args...))
				mustExec(t, conn, "UPDATE o.counters SET n = 2")
			})
		}
	}
}

func execOn(conn *sql.Conn, text string, args ...any) error {
	_, err := conn.ExecContext(context.Background(), text, args...)
	return err
}

func queryOn(conn *sql.Conn, text string, args ...any) error {
	rows, err := conn.QueryContext(context.Background(), text, args...)
	if err != nil {
		return err
	}
	rows.Next()
	return errors.Join(rows.Err(), rows.Close())
}

func prepareOn(conn *sql.Conn, text string, args ...any) error {
	stmt, err := conn.PrepareContext(context.Background(), text)
	if err != nil {
		return err
	}
	defer stmt.Close()
	_, err = stmt.Exec(args...)
	return err
}
