package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/calmdocs/dblocker/internal/testdb"
)

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
