package dblocker

import (
	"database/sql"
	"os"
	"sync"
	"testing"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// TestFirstAndLastConnections opens and closes handles on one file beside each other, so
// that again and again one has the first connection to it while another has had the last.
// SQLite itself waits for nothing. What openJournal lets it wait for is rare enough here.
func TestFirstAndLastConnections(t *testing.T) {
	for _, mode := range []string{"WAL", "DELETE"} {
		t.Run(mode, func(t *testing.T) {
			dsn := "file:" + testdb.SQLite(t) + "?_busy_timeout=0&_sync=OFF&_journal_mode=" + mode
			work := func(user int, query string) {
				db, err := sql.Open("sqlite3-dblocker", dsn)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := db.ExecContext(asUser(user), query); err != nil {
					t.Errorf("a write: %v", err)
				}
				if err := db.QueryRowContext(asUser(user), "SELECT n FROM counters").Scan(new(int)); err != nil {
					t.Errorf("a read: %v", err)
				}
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			}
			work(0, "CREATE TABLE counters (n INTEGER); INSERT INTO counters VALUES (0)")
			var wg sync.WaitGroup
			for user := range 4 {
				wg.Go(func() {
					for range 40 {
						work(user, "UPDATE counters SET n = n + 1")
					}
				})
			}
			wg.Wait()
		})
	}
}

// TestRecoveredOnce has no idle connections, and finds the WAL of another process that
// has crashed: of those who come then, the first recovers it while the others wait.
func TestRecoveredOnce(t *testing.T) {
	const rows = 10000
	crashed := testdb.SQLite(t)
	other := openSQLite(t, "sqlite3", "file:"+crashed+"?_journal_mode=WAL")
	other.SetMaxOpenConns(1)
	mustExec(t, other, "PRAGMA wal_autocheckpoint = 0; CREATE TABLE counters (n INTEGER)")
	mustExec(t, other, "INSERT INTO counters WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < 10000) SELECT i FROM r")

	path := testdb.SQLite(t)
	db := openSQLite(t, "dblocker", "sqlite3?max_idle_conns=0:file:"+path+"?_busy_timeout=0&_journal_mode=WAL")
	must(t, db.Ping())
	for range 20 {
		for _, suffix := range []string{"", "-wal"} {
			content, err := os.ReadFile(crashed + suffix)
			must(t, err)
			must(t, os.WriteFile(path+suffix, content, 0o600))
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				var n int
				if err := db.QueryRow("SELECT COUNT(*) FROM counters").Scan(&n); err != nil || n != rows {
					t.Errorf("got %d rows, error %v; want %d", n, err, rows)
				}
			})
		}
		wg.Wait()
	}
}
