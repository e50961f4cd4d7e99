package dblocker

import (
	"context"
	"database/sql"
	"strings"
	"testing"
)

// recovered runs f and returns what it panics with; nil if it does not.
func recovered(f func()) (p any) {
	defer func() { p = recover() }()
	f()
	return nil
}

// TestPanicOnAConnectionInUse: a call that panics on a server connection that earlier calls have
// used ends what was open there, and leaves no lock, though database/sql keeps what called
// it locked for ever, so that neither a Rollback nor the end of the context gets through.
func TestPanicOnAConnectionInUse(t *testing.T) {
	ctx := asUser(1)
	for name, run := range map[string]func(db *sql.DB) (panics func()){
		"Tx.Query": func(db *sql.DB) func() {
			tx, err := db.BeginTx(ctx, nil)
			must(t, err)
			return func() {
				defer tx.Rollback() // which hangs if database/sql has kept the Tx locked
				if _, err := tx.QueryContext(ctx, "SELECT 1"); err == nil || !strings.Contains(err.Error(), "the driver's panic") {
					t.Errorf("got %v, want the panic as an error", err)
				}
			}
		},
		"Tx.Exec": func(db *sql.DB) func() {
			tx, err := db.BeginTx(ctx, nil)
			must(t, err)
			return func() {
				defer tx.Rollback()
				tx.ExecContext(ctx, "UPDATE t SET v = 1")
			}
		},
		"Conn.Exec of BEGIN": func(db *sql.DB) func() {
			conn, err := db.Conn(ctx)
			must(t, err)
			must(t, second(conn.ExecContext(ctx, "UPDATE t SET v = 1")))
			return func() {
				defer conn.Close()
				conn.ExecContext(ctx, "BEGIN")
			}
		},
		"Conn.BeginTx": func(db *sql.DB) func() {
			conn, err := db.Conn(ctx)
			must(t, err)
			must(t, second(conn.ExecContext(ctx, "UPDATE t SET v = 1")))
			return func() {
				defer conn.Close()
				if p := recovered(func() { conn.BeginTx(ctx, nil) }); p != "the driver's panic" {
					t.Errorf("the program sees the panic %v", p)
				}
			}
		},
		"Conn.Query beside rows": func(db *sql.DB) func() {
			conn, err := db.Conn(ctx)
			must(t, err)
			rows, err := conn.QueryContext(ctx, "SELECT 1")
			must(t, err)
			return func() {
				defer conn.Close()
				defer rows.Close()
				conn.QueryContext(ctx, "SELECT 2")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &stub{}
			db := openStub(t, s, MaxOpenConns(1), LockTimeout(0))
			panics := run(db)
			s.run = func(context.Context, string) error { panic("the driver's panic") }
			recovered(panics)
			s.run = nil
			if _, err := db.ExecContext(asUser(1), "UPDATE t SET v = 1"); err != nil {
				t.Errorf("after the panic: %v", err)
			}
		})
	}
}
