package compat

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/testdb"
	"github.com/calmdocs/dblocker/internal/walsync"
)

// syncedWAL is what was in each WAL when its last sync began.
type syncedWAL struct {
	mu      sync.Mutex
	content map[string]string
	syncs   int
	err     error // of the next syncs
}

// watchSyncs watches those of all handles, until the test ends.
func watchSyncs(t *testing.T) *syncedWAL {
	w := &syncedWAL{content: make(map[string]string)}
	watching.Store(w)
	t.Cleanup(func() { watching.Store(nil) })
	return w
}

// watching is that of the test which runs.
var watching atomic.Pointer[syncedWAL]

func init() {
	plain := walsync.SyncFile
	walsync.SyncFile = func(f *os.File) error {
		if w := watching.Load(); w != nil {
			return w.sync(f)
		}
		return plain(f)
	}
}

func (w *syncedWAL) sync(f *os.File) error {
	content, err := os.ReadFile(f.Name())
	w.mu.Lock()
	defer w.mu.Unlock()
	if err = errors.Join(err, w.err); err != nil {
		return err
	}
	w.content[f.Name()] = string(content)
	w.syncs++
	return nil
}

func (w *syncedWAL) has(file, text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Contains(w.content[file+"-wal"], text)
}

func (w *syncedWAL) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.syncs
}

func (w *syncedWAL) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = err
}

// TestGroupSync: on both SQLite drivers each write is synced when it is answered, in whatever way it comes, and nothing else is.
func TestGroupSync(t *testing.T) {
	for _, name := range []string{"sqlite3", "sqlite"} {
		t.Run(name, func(t *testing.T) {
			testdb.NoLeaks(t)
			w := watchSyncs(t)
			file, other := testdb.SQLite(t), testdb.SQLite(t)
			db, err := sql.Open("dblocker", name+"?durability=group:file:"+file)
			must(t, err)
			defer db.Close()
			ctx := dblocker.WithUser(context.Background(), "1")
			_, err = db.Exec("CREATE TABLE log (id INTEGER PRIMARY KEY, who TEXT)")
			must(t, err)
			var level int
			if must(t, db.QueryRow("PRAGMA synchronous").Scan(&level)); level != 1 {
				t.Errorf("synchronous is %d, want 1, NORMAL", level)
			}
			c, err := db.Conn(ctx)
			must(t, err)
			defer c.Close()
			execs := func(texts ...string) func(who string) error {
				return func(who string) error {
					for _, text := range texts {
						if _, err := c.ExecContext(ctx, strings.ReplaceAll(text, "?", "'"+who+"'")); err != nil {
							return fmt.Errorf("%s: %w", text, err)
						}
					}
					return nil
				}
			}
			for i, form := range []struct {
				name  string
				write func(who string) error
				syncs bool
			}{
				{"Exec", func(who string) error {
					_, err := db.ExecContext(ctx, "INSERT INTO log (who) VALUES (?)", who)
					return err
				}, true},
				{"Exec of several", execs("DELETE FROM log WHERE id < 0; INSERT INTO log (who) VALUES (?)"), true},
				{"RETURNING", func(who string) error {
					var id int
					return db.QueryRowContext(ctx, "INSERT INTO log (who) VALUES (?) RETURNING id", who).Scan(&id)
				}, true},
				{"prepared", func(who string) error {
					stmt, err := db.PrepareContext(ctx, "INSERT INTO log (who) VALUES (?)")
					if err != nil {
						return err
					}
					defer stmt.Close()
					_, err = stmt.ExecContext(ctx, who)
					return err
				}, true},
				{"Tx", func(who string) error {
					tx, err := db.BeginTx(ctx, nil)
					if err != nil {
						return err
					}
					defer tx.Rollback()
					for _, query := range []string{"INSERT INTO log (who) VALUES (?)", "SAVEPOINT a", "RELEASE a"} {
						if _, err := tx.ExecContext(ctx, strings.ReplaceAll(query, "?", "'"+who+"'")); err != nil {
							return err
						}
					}
					if w.has(file, who) {
						t.Error("synced before it is committed")
					}
					return tx.Commit()
				}, true},
				{"COMMIT", execs("BEGIN", "INSERT INTO log (who) VALUES (?)", "COMMIT"), true},
				{"END", execs("BEGIN IMMEDIATE", "INSERT INTO log (who) VALUES (?)", "END TRANSACTION"), true},
				{"RELEASE", execs("SAVEPOINT a", "SAVEPOINT b", "INSERT INTO log (who) VALUES (?)", "RELEASE b", "RELEASE a"), true},
				{"DDL", execs("CREATE TABLE t AS SELECT ? AS who"), true},
				{"PRAGMA", execs("INSERT INTO log (who) VALUES (?)", "PRAGMA user_version = 3"), true},
				{"section", func(who string) error {
					return dblocker.Do(ctx, db, func(ctx context.Context) error {
						_, err := db.ExecContext(ctx, "INSERT INTO log (who) VALUES (?)", who)
						return err
					}, dblocker.Pin())
				}, true},
				{"ROLLBACK", execs("BEGIN", "INSERT INTO log (who) VALUES (?)", "ROLLBACK"), false},
				{"read", func(string) error { var n int; return db.QueryRowContext(ctx, "SELECT count(*) FROM log").Scan(&n) }, false},
				{"reading COMMIT", execs("BEGIN", "COMMIT"), false},
				{"setting", execs("PRAGMA foreign_keys = ON"), false},
			} {
				who, before := fmt.Sprintf("marked %d", i), w.count()
				must(t, form.write(who))
				if synced := w.has(file, who) && w.count() > before; synced != form.syncs {
					t.Errorf("%s: synced %v (%d syncs), want %v", form.name, synced, w.count()-before, form.syncs)
				}
			}

			must(t, execs("ATTACH '"+other+"' AS other", "PRAGMA other.journal_mode = WAL", "CREATE TABLE other.far (who TEXT)", "INSERT INTO far VALUES (?)")("far away"))
			if !w.has(other, "far away") {
				t.Error("the attached file is not synced")
			}
			must(t, execs("DETACH other")(""))

			w.fail(errors.New("no disk"))
			if _, err := db.ExecContext(ctx, "INSERT INTO log (who) VALUES ('lost')"); !errors.Is(err, dblocker.ErrNotDurable) {
				t.Errorf("the sync has failed: %v", err)
			}
			w.fail(nil)
			if _, err := db.ExecContext(ctx, "INSERT INTO log (who) VALUES ('refused')"); !errors.Is(err, dblocker.ErrNotDurable) {
				t.Errorf("after that: %v", err)
			}
			_, err = db.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
			must(t, err)
			if _, err := db.ExecContext(ctx, "INSERT INTO log (who) VALUES ('again')"); err != nil || !w.has(file, "again") {
				t.Errorf("after a checkpoint: %v", err)
			}
		})
	}
}

// TestGroupSyncRefusesOFF: in the words of each driver.
func TestGroupSyncRefusesOFF(t *testing.T) {
	for _, dsn := range []string{"sqlite3?durability=group:file:app.db?" + sqlite3SyncOff, "sqlite?durability=group:app.db?_pragma=synchronous(off)", "sqlite?durability=group:app.db?_synchronous=0"} {
		if db, err := sql.Open("dblocker", dsn); err == nil || !strings.Contains(err.Error(), "_synchronous=OFF") {
			t.Errorf("%s: got %v, want an error", dsn, err)
			db.Close()
		}
	}
}
