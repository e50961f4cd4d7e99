package tools

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// TestTenants: on a handle with a file for each user, contexts say which one the tool migrates, writes and reads.
func TestTenants(t *testing.T) {
	testdb.NoLeaks(t)
	for _, tool := range programs {
		t.Run(tool.name, func(t *testing.T) {
			to := &target{engine: sqliteEngine, driver: "sqlite3", locked: true, dsn: "file:" + filepath.Join(t.TempDir(), "{user}.db") + "?_fk=1"}
			var err error
			if to.handle, err = to.open(); err != nil {
				t.Fatal(err)
			}
			defer func() { to.handle.Close() }() // which may be another by then
			p, err := tool.open(to)
			if err != nil {
				t.Fatal(err)
			}
			migrate := p.Migrate
			if tool.name == "sqlx" { // golang-migrate, which it uses elsewhere, knows no context; it is for OnOpen
				migrate = func(ctx context.Context) error { return second(to.handle.ExecContext(ctx, createAccounts)) }
			}
			users := []string{"ann", "Ann", "../ann", "a/b?mode=memory", "x&_fk=0", "'; DROP TABLE accounts; --", "COM1", "é", "\x00", "%2e%2e"}
			for i, user := range users {
				ctx := dblocker.WithUser(t.Context(), user)
				for range 2 {
					if err := migrate(ctx); err != nil {
						t.Fatalf("%q: %v", user, err)
					}
				}
				if err := p.Create(ctx, 1); err != nil {
					t.Errorf("%q: %v", user, err)
				}
				for range i {
					if err := p.Add(ctx, 1); err != nil {
						t.Errorf("%q: %v", user, err)
					}
					if err := p.AddNested(ctx, 1); err != nil {
						t.Errorf("%q: %v", user, err)
					}
				}
			}
			for i, user := range users {
				if n, err := p.Cents(dblocker.WithUser(t.Context(), user), 1); err != nil || n != int64(2*i) {
					t.Errorf("%q has %d, %v, want %d", user, n, err, 2*i)
				}
			}
			if _, err := p.Cents(t.Context(), 1); err == nil {
				t.Error("nobody has an account")
			}
		})
	}
}
