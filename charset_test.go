package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// TestCharacterSetsThatHideBackslashes: in some character sets the last byte of a letter and a backslash
// behind it are a letter, and a string ends where it does not seem to.
func TestCharacterSetsThatHideBackslashes(t *testing.T) {
	dsn := testdb.MySQL(t).NewDatabase(t).DSN()
	for _, charset := range []string{"gbk", "sjis", "big5", "cp932"} {
		t.Run(charset, func(t *testing.T) {
			db, err := sql.Open("dblocker", "mysql:"+dsn+"?charset="+charset)
			must(t, err)
			defer db.Close()
			ctx, unlock, err := RLock(asUser(1), db)
			must(t, err)
			defer unlock()
			conn, err := db.Conn(context.Background())
			must(t, err)
			defer conn.Close()
			rows, err := conn.QueryContext(ctx, `SELECT 'あ\\', ', 5 INTO @y, @x -- '`)
			if err := closeRows(rows, err); !errors.Is(err, ErrReadOnly) {
				t.Errorf("an INTO that hides in a string, in a shared section: got %v, want ErrReadOnly", err)
			}
			var x int
			must(t, conn.QueryRowContext(ctx, "SELECT COALESCE(@x, 0)").Scan(&x))
			if x != 0 {
				t.Error("a shared section has done more than to read")
			}
		})
	}
}
