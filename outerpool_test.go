package dblocker

import (
	"context"
	"database/sql"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestOuterPoolSettingsAreLogged: a limit that the program sets on its handle, where it does nothing
// or harm, is logged once, also if dblocker is never shown the handle; and nothing is logged of a
// handle without such settings.
func TestOuterPoolSettingsAreLogged(t *testing.T) {
	query := func(t *testing.T, db *sql.DB, n int) {
		t.Helper()
		for range n {
			rows, err := db.QueryContext(context.Background(), "SELECT 1")
			must(t, err)
			must(t, rows.Close())
		}
	}
	together := func(db *sql.DB, n int) {
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() {
				db.ExecContext(context.Background(), "UPDATE t SET v = 1")
				if rows, err := db.QueryContext(context.Background(), "SELECT 1"); err == nil {
					rows.Close()
				}
			})
		}
		wg.Wait()
	}
	for _, tc := range []struct {
		name string
		use  func(t *testing.T, db *sql.DB)
		want string // an option that the log names; "" if it is to be silent
	}{
		{"nothing", func(t *testing.T, db *sql.DB) { query(t, db, 10); together(db, 100); query(t, db, 10) }, ""},
		{"SetMaxOpenConns", func(t *testing.T, db *sql.DB) { db.SetMaxOpenConns(2); together(db, 20) }, "max_open_conns"},
		{"SetMaxOpenConns, and a section", func(t *testing.T, db *sql.DB) {
			db.SetMaxOpenConns(2)
			_, unlock, err := Lock(asUser(1), db)
			must(t, err)
			unlock()
		}, "max_open_conns"},
		{"SetMaxIdleConns(0)", func(t *testing.T, db *sql.DB) { db.SetMaxIdleConns(0); query(t, db, 4) }, "max_idle_conns"},
		{"SetMaxIdleConns, later", func(t *testing.T, db *sql.DB) { query(t, db, 4); db.SetMaxIdleConns(-1) }, "max_idle_conns"},
		{"SetConnMaxIdleTime", func(t *testing.T, db *sql.DB) {
			db.SetConnMaxIdleTime(2 * time.Second)
			query(t, db, 1)
			time.Sleep(time.Minute)
			synctest.Wait()
		}, "conn_max_idle_time"},
		{"SetConnMaxLifetime", func(t *testing.T, db *sql.DB) {
			db.SetConnMaxLifetime(2 * time.Second)
			query(t, db, 1)
			time.Sleep(time.Minute)
			synctest.Wait()
		}, "conn_max_lifetime"},
		{"SetConnMaxLifetime, short", func(t *testing.T, db *sql.DB) {
			db.SetConnMaxLifetime(time.Nanosecond)
			for range 4 {
				query(t, db, 1)
				time.Sleep(time.Millisecond)
			}
		}, "conn_max_lifetime"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var log strings.Builder
				slow := func(context.Context, string) error { time.Sleep(time.Millisecond); return nil }
				db := openStub(t, &stub{run: slow}, Logger(textLogger(&log)))
				tc.use(t, db)
				got := log.String()
				if want := min(len(tc.want), 1); strings.Count(got, "\n") != want || !strings.Contains(got, tc.want) {
					t.Errorf("logged %q, want %d line with %q", got, want, tc.want)
				}
			})
		})
	}
}
