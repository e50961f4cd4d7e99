//go:build !ncruces

// GORM's dialector of SQLite brings mattn/go-sqlite3.

package compat_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// hostileTenants are IDs that would leave their place if they were written as they are.
var hostileTenants = []string{"ann", "Ann", "../ann", "a/b", "x?mode=memory", "x&search_path=public", "'; DROP TABLE notes; --", "COM1", "é", "\x00", "%2e%2e"}

// TestTenantsByGORM: a *gorm.DB that is opened as its documentation says has a database for each user; contexts say whose.
func TestTenantsByGORM(t *testing.T) {
	type Note struct {
		ID   uint
		Text string
	}
	dir := t.TempDir()
	for name, open := range map[string]func() gorm.Dialector{
		"driver": func() gorm.Dialector {
			return sqlite.Dialector{DriverName: "dblocker", DSN: "sqlite3?max_open_databases=3:" + filepath.Join(dir, "driver", "{user}.db")}
		},
		"connection": func() gorm.Dialector {
			db, err := sql.Open("dblocker", "sqlite3:"+filepath.Join(dir, "connection", "{user}.db"))
			if err != nil {
				t.Fatal(err)
			}
			return sqlite.Dialector{Conn: db}
		},
	} {
		t.Run(name, func(t *testing.T) {
			db, err := gorm.Open(open(), &gorm.Config{PrepareStmt: name == "driver"})
			if err != nil {
				t.Fatal(err)
			}
			handle, err := db.DB()
			if err != nil {
				t.Fatal(err)
			}
			defer handle.Close()
			for _, user := range hostileTenants {
				mine := db.WithContext(dblocker.WithUser(t.Context(), user))
				if err := mine.AutoMigrate(&Note{}); err != nil {
					t.Fatalf("%q: %v", user, err)
				}
				if err := mine.Create(&Note{Text: user}).Error; err != nil {
					t.Errorf("%q: %v", user, err)
				}
				if err := mine.Transaction(func(tx *gorm.DB) error { return tx.Create(&Note{Text: user}).Error }); err != nil {
					t.Errorf("%q: %v", user, err)
				}
			}
			for _, user := range hostileTenants {
				var notes []Note
				if err := db.WithContext(dblocker.WithUser(t.Context(), user)).Find(&notes).Error; err != nil || len(notes) != 2 || notes[0].Text != user || notes[1].Text != user {
					t.Errorf("%q has %+v, %v", user, notes, err)
				}
			}
			if err := db.WithContext(t.Context()).Create(&Note{}).Error; err == nil {
				t.Error("nobody has a database")
			}
		})
	}
}

// TestTenantsBySqlx: on SQLite with both drivers, and on PostgreSQL by pgx, whose schemas have to be there.
func TestTenantsBySqlx(t *testing.T) {
	pg := testdb.Postgres(t).NewDatabase(t)
	admin, err := sql.Open("pgx", pg.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	dir := t.TempDir()
	for driver, dsn := range map[string]string{
		"sqlite3": "sqlite3:" + filepath.Join(dir, "mattn", "{user}", "app.db"),
		"sqlite":  "sqlite:" + filepath.Join(dir, "modernc", "{user}", "app.db"),
		"pgx":     "pgx:" + pg.URL() + "&search_path={user}",
	} {
		t.Run(driver, func(t *testing.T) {
			db, err := sqlx.Connect("dblocker", dsn) // which pings
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			users := hostileTenants
			if driver == "pgx" {
				users = append([]string{"x"}, users[:7]...)
			}
			for i, user := range users {
				ctx := dblocker.WithUser(t.Context(), user)
				if driver == "pgx" {
					schema, err := dblocker.DatabaseName(user)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := admin.Exec("CREATE SCHEMA " + schema); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := db.ExecContext(ctx, fmt.Sprintf("CREATE TABLE notes (n INT); INSERT INTO notes VALUES (%d)", i)); err != nil {
					t.Errorf("%q: %v", user, err)
				}
			}
			for i, user := range users {
				var n []int
				if err := db.SelectContext(dblocker.WithUser(t.Context(), user), &n, "SELECT n FROM notes"); err != nil || len(n) != 1 || n[0] != i {
					t.Errorf("%q has %v, %v", user, n, err)
				}
			}
			var n int
			if err := db.GetContext(context.Background(), &n, "SELECT count(*) FROM notes"); err == nil || !strings.Contains(err.Error(), "no user") {
				t.Errorf("nobody: %v", err)
			}
		})
	}
}
