package dblocker_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/mattn/go-sqlite3"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// TestTenantsOnAFullDisk: a write, an opening and OnOpen fail with the engine's error and hurt nobody else. With room again all go on.
func TestTenantsOnAFullDisk(t *testing.T) {
	testdb.NoLeaks(t)
	dir := t.TempDir()
	mountSmall(t, dir, "4m")
	db := tenantDBWith(t, filepath.Join(dir, "{user}.db"), dblocker.OnOpen(func(ctx context.Context, user string, db *sql.DB) error {
		_, err := db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS notes (n)")
		return err
	}))
	write := func(user string, size int) error {
		_, err := db.ExecContext(as(t, user), "INSERT INTO notes VALUES (zeroblob(?))", size)
		return err
	}
	count := func(user string, want int) {
		t.Helper()
		var n int
		if err := db.QueryRowContext(as(t, user), "SELECT count(*) FROM notes").Scan(&n); err != nil || n != want {
			t.Errorf("%s has %d notes, %v, want %d", user, n, err, want)
		}
	}
	for _, user := range []string{"ann", "bob"} {
		if err := write(user, 10); err != nil {
			t.Fatal(err)
		}
	}
	ballast := filepath.Join(dir, "ballast")
	fillDisk(t, ballast)
	var fault sqlite3.Error
	for range 3 {
		if err := write("bob", 1_000_000); !errors.As(err, &fault) || fault.Code != sqlite3.ErrFull {
			t.Errorf("a write: %v", err)
		}
		if err := write("carl", 10); !errors.As(err, &fault) {
			t.Errorf("a user who is opened: %v", err)
		}
		count("ann", 1)
		count("bob", 1)
	}
	if st, err := dblocker.Stats(db); err != nil || st.Held+st.Waiting > 0 {
		t.Errorf("%+v, %v", st, err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"ann", "bob", "carl"} {
		if err := write(user, 10); err != nil {
			t.Errorf("%s, with room again: %v", user, err)
		}
		var integrity string
		if err := db.QueryRowContext(as(t, user), "PRAGMA integrity_check").Scan(&integrity); err != nil || integrity != "ok" {
			t.Errorf("%s: %s, %v", user, integrity, err)
		}
	}
	count("ann", 2)
	count("bob", 2)
	count("carl", 1)
	db.Close()
}

// fillDisk writes until there is no more room.
func fillDisk(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}
