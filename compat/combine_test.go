package compat

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// TestCombined: on both SQLite drivers each caller has its own result or error where one runs the statements of all.
func TestCombined(t *testing.T) {
	for name, params := range map[string]string{"sqlite3": fmt.Sprintf(sqlite3Params, 5000, "WAL"), "sqlite": "_pragma=journal_mode(WAL)"} {
		t.Run(name, func(t *testing.T) {
			testdb.NoLeaks(t)
			db, err := sql.Open("dblocker", name+":file:"+testdb.SQLite(t)+"?"+params)
			must(t, err)
			defer db.Close()
			for _, query := range []string{
				"CREATE TABLE log (id INTEGER PRIMARY KEY AUTOINCREMENT, who TEXT UNIQUE)",
				"INSERT INTO log (who) VALUES ('first')",
				"CREATE TABLE strict (who TEXT)",
				"CREATE TRIGGER refuses BEFORE INSERT ON strict BEGIN SELECT RAISE(ROLLBACK, 'refused'); END",
			} {
				_, err := db.Exec(query)
				must(t, err)
			}
			const goroutines, calls = 16, 150
			var wg sync.WaitGroup
			for g := range goroutines {
				wg.Go(func() {
					ctx := dblocker.WithUser(context.Background(), fmt.Sprint("user", g%5))
					for i := range calls {
						who := fmt.Sprint(g, " ", i)
						if err := addTo(ctx, db, who, i); err != nil {
							t.Errorf("%s: %v", who, err)
						}
					}
				})
			}
			wg.Wait()
			var n, refused int
			must(t, db.QueryRow("SELECT count(*), (SELECT count(*) FROM strict) FROM log").Scan(&n, &refused))
			if want := 1 + goroutines*calls; n != want || refused != 0 {
				t.Errorf("%d rows are there, want %d; and %d that were refused", n, want, refused)
			}
			stats, err := dblocker.Stats(db)
			must(t, err)
			if stats.Combined == 0 && (name != "sqlite3" || sqlite3Combines) {
				t.Error("nothing was combined")
			}
			t.Logf("%d batches with %d calls, %d alone after that", stats.Batches, stats.Combined, stats.Alone)
		})
	}
}

// addTo adds a row, and tries what fails now and then.
func addTo(ctx context.Context, db *sql.DB, who string, i int) error {
	res, err := db.ExecContext(ctx, "INSERT INTO log (who) VALUES (?)", who)
	if err != nil {
		return err
	}
	id, err := res.LastInsertId()
	if err != nil {
		return err
	}
	var is string
	if err := db.QueryRowContext(ctx, "SELECT who FROM log WHERE id = ?", id).Scan(&is); err != nil || is != who {
		return fmt.Errorf("row %d is of %q, %v", id, is, err)
	}
	switch i % 16 {
	case 3:
		_, err = db.ExecContext(ctx, "INSERT INTO log (who) VALUES (?)", "first")
		return failsWith(err, "UNIQUE")
	case 9:
		_, err = db.ExecContext(ctx, "INSERT INTO strict VALUES (?)", who)
		return failsWith(err, "refused")
	case 12:
		res, err = db.ExecContext(ctx, "UPDATE log SET who = who WHERE who = ?", "nobody")
		if n, _ := res.RowsAffected(); err != nil || n != 0 {
			return fmt.Errorf("%d rows were changed, %v", n, err)
		}
	}
	return nil
}

func failsWith(err error, why string) error {
	if err == nil || !strings.Contains(err.Error(), why) {
		return errors.Join(fmt.Errorf("want an error with %q, got another", why), err)
	}
	return nil
}
