package dblocker_test

import (
	"context"
	"database/sql"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/mattn/go-sqlite3"

	"github.com/calmdocs/dblocker"
)

// TestReadmeSnippets: every Go snippet of the README stands in this file, so that
// the compiler has read it.
func TestReadmeSnippets(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("readme_test.go")
	if err != nil {
		t.Fatal(err)
	}
	compiled := withoutIndent(string(source))
	snippets := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	if len(snippets) == 0 {
		t.Error("the README has no snippets")
	}
	for _, m := range snippets {
		if !strings.Contains(compiled, withoutIndent(m[1])) {
			t.Errorf("not compiled anywhere:\n%s", m[1])
		}
	}
}

func withoutIndent(code string) string {
	return regexp.MustCompile(`(?m)^[\t ]+`).ReplaceAllString(code, "")
}

// TestReadmeNamesTests: the tests that the README's table of promises names exist.
func TestReadmeNamesTests(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var sources strings.Builder
	for _, pattern := range []string{"*_test.go", "compat/*_test.go", "internal/*/*_test.go", "chaos/*_test.go", "chaos/*/*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			source, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			sources.Write(source)
		}
	}
	for _, name := range regexp.MustCompile(`\b(Test|Fuzz)[A-Z]\w+`).FindAllString(string(readme), -1) {
		if !strings.Contains(sources.String(), "func "+name+"(") {
			t.Errorf("the README names %s, which does not exist", name)
		}
	}
}

var _ = func() {
	db, err := sql.Open("dblocker", "sqlite3:app.db") // was: sql.Open("sqlite3", "app.db")
	_, _ = db, err
}

var _ = func(r *http.Request, currentUser func(*http.Request) string) {
	ctx := dblocker.WithUser(r.Context(), currentUser(r)) // once per request, in a middleware
	_ = ctx
}

var _ = func(ctx context.Context, db *sql.DB) {
	ctx = dblocker.WithUser(ctx, 27)

	rows, err := db.QueryContext(dblocker.WithMode(ctx, dblocker.Exclusive), "SELECT next_invoice_number()")
	_, _ = rows, err
}

var _ = func(ctx context.Context) {
	for range 2 {
		ctx := dblocker.Fork(ctx)
		_ = ctx
	}
}

var _ = func(conn *sql.Conn, useSQLite func(*sqlite3.SQLiteConn) error) (err error) {
	err = conn.Raw(func(driverConn any) error {
		return driverConn.(dblocker.RawConn).Raw(func(inner any) error {
			return useSQLite(inner.(*sqlite3.SQLiteConn))
		})
	})
	return err
}

var _ = func(ctx context.Context, db *sql.DB) error {
	ctx, unlock, err := dblocker.Lock(ctx, db) // or RLock; named after sync.RWMutex
	if err != nil {
		return err
	}
	defer unlock()
	// every call made with this ctx runs inside the section
	return db.PingContext(ctx)
}

var _ = func(ctx context.Context, debug bool) {
	store, err := dblocker.New(ctx, "sqlite3", "app.db", debug)
	_, _ = store, err
}

var _ = func(ctx context.Context, store *dblocker.Store, userID int) error {
	cancel, db, err := store.ReadGetDB(userID, ctx, "list files") // or RWGetDB
	if err != nil {
		return err
	}
	defer cancel()
	// db is a *sqlx.DB under the user's lock until cancel
	return db.Ping()
}

var _ = func(ctx context.Context, debug bool, shardOf func(user string) (string, error)) {
	store, err := dblocker.New(ctx, "sqlite3", "", debug, dblocker.DSNFunc(
		func(ctx context.Context, user string) (string, error) { return shardOf(user) }))
	_, _ = store, err
}
