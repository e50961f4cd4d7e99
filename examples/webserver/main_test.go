package main

import (
	"database/sql"
	"io"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// TestNoVisitIsLost: of visits that come at the same time each is counted, and none is refused.
func TestNoVisitIsLost(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) { visitAtOnce(t, "sqlite3:"+filepath.Join(t.TempDir(), "app.db")) })
	t.Run("PostgreSQL", func(t *testing.T) { visitAtOnce(t, testdb.Postgres(t).NewDatabase(t).URL()) })
}

func visitAtOnce(t *testing.T, dsn string) {
	testdb.NoLeaks(t)
	db, err := sql.Open("dblocker", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(schema); err != nil {
		t.Fatal(err)
	}
	handler := server(db)
	get := func(path string) string {
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, httptest.NewRequest("GET", path, nil))
		body, _ := io.ReadAll(answer.Body)
		return strings.TrimSpace(string(body))
	}
	var wg sync.WaitGroup
	for _, user := range []string{"ann", "bob"} {
		for range 25 {
			wg.Go(func() {
				if got := get("/visit?user=" + user); strings.Trim(got, "0123456789") != "" {
					t.Errorf("a visit of %s: %s", user, got)
				}
			})
		}
	}
	wg.Wait()
	for _, user := range []string{"ann", "bob"} {
		if got := get("/count?user=" + user); got != "25" {
			t.Errorf("%s: %s; want 25 visits", user, got)
		}
	}
	if got := get("/count"); !strings.Contains(got, "user ID") {
		t.Errorf("a request without a user is answered %s; want the error of an empty user ID", got)
	}
}
