package dblocker

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// TestOriginalNames: a program that was written for the original library works with its functions.
func TestOriginalNames(t *testing.T) {
	second, minute := time.Second, time.Minute
	dir := t.TempDir()
	for name, open := range map[string]func() (*Store, error){
		"timeouts": func() (*Store, error) {
			return NewWithUnlockAndStatementTimeouts(t.Context(), "sqlite3", filepath.Join(dir, "a.db"), &second, &minute, false)
		},
		"no timeouts": func() (*Store, error) {
			return NewWithUnlockAndStatementTimeouts(t.Context(), "sqlite3", filepath.Join(dir, "b.db"), nil, nil, false)
		},
		"default connect": func() (*Store, error) {
			return NewWithConnectDBFuncAndTimeouts(t.Context(), DefaultConnectDBFunc, "sqlite3", filepath.Join(dir, "c.db"), &second, nil, false)
		},
		"connect": func() (*Store, error) {
			connect := func(ctx context.Context, id any, driverName, dataSourceName string, statementTimeout *time.Duration) (*sqlx.DB, error) {
				if id != "7" || statementTimeout == nil || *statementTimeout != minute {
					t.Errorf("connect is given the ID %v and the timeout %v", id, statementTimeout)
				}
				return DefaultConnectDBFunc(ctx, id, driverName, filepath.Join(dir, "d.db"), statementTimeout)
			}
			return NewWithConnectDBFuncAndTimeouts(t.Context(), connect, "sqlite3", "unused", &second, &minute, false)
		},
	} {
		t.Run(name, func(t *testing.T) {
			testdb.NoLeaks(t)
			store, err := open()
			must(t, err)
			defer store.Close()
			cancel, db, err := store.RWGetDBx(7, t.Context(), "create")
			must(t, err)
			mustExec(t, db.DB, "CREATE TABLE t (v)")
			mustExec(t, db.DB, "INSERT INTO t VALUES (1)")
			if name != "no timeouts" {
				_, _, err := store.RWGetDBxWithTimeout(7, t.Context(), "second", nil)
				if !errors.Is(err, ErrLockTimeout) {
					t.Errorf("a second handle beside the first: got %v, want ErrLockTimeout", err)
				}
			}
			cancel()
			cancel, db, err = store.ReadGetDBx(7, t.Context(), "read")
			must(t, err)
			defer cancel()
			var n int
			if must(t, db.Get(&n, "SELECT count(*) FROM t")); n != 1 {
				t.Errorf("%d rows, want 1", n)
			}
		})
	}
	if _, err := NewWithConnectDBFuncAndTimeouts(t.Context(), nil, "sqlite3", "x.db", nil, nil, false); err == nil {
		t.Error("no function to connect is taken for one")
	}
}

// TestReadAndWrite have the locks of ReadGetDB and RWGetDB.
func TestReadAndWrite(t *testing.T) {
	testdb.NoLeaks(t)
	store := sqliteStore(t)
	db, release, err := store.Read(t.Context(), 1, "read")
	must(t, err)
	var n int
	must(t, db.Get(&n, "SELECT count(*) FROM counters"))
	if _, err := db.Exec("UPDATE counters SET n = 1"); !errors.Is(err, ErrReadOnly) {
		t.Errorf("a write through Read: got %v, want ErrReadOnly", err)
	}
	other, releaseOther, err := store.Read(t.Context(), 1, "beside it")
	must(t, err)
	must(t, other.Get(&n, "SELECT count(*) FROM counters"))
	releaseOther()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := store.Write(ctx, 1, "beside it"); err == nil {
		t.Error("Write has not waited for Read")
	}
	release()
	db, release, err = store.Write(t.Context(), 1, "write")
	must(t, err)
	mustExec(t, db.DB, "UPDATE counters SET n = 1")
	release()
	if _, err := db.Exec("UPDATE counters SET n = 2"); !errors.Is(err, ErrReleased) {
		t.Errorf("after release: got %v, want ErrReleased", err)
	}
}
