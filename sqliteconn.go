package dblocker

import (
	"context"
	"database/sql/driver"

	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqlite"
)

// setUpSQLite learns the journal mode of a new connection.
func setUpSQLite(ctx context.Context, inner driver.Connector, sc *server.Conn, journal string) (string, error) {
	c, _ := inner.(*sqlite.Connector)
	if c.IsOfAFile() {
		sc.DistrustOn(&c.Trust, c.IsOfTheFile)
	}
	if journal != "" {
		return journal, nil
	}
	return c.JournalOf(ctx, func(ctx context.Context, text string) (string, error) { return pragmaOf(ctx, sc, text) })
}

// journalOf returns the journal mode of a connection that inner has made beside another, if
// that need not be asked for: the driver has set it, and it is the one that the other
// connection keeps the file in, or has left it in.
func journalOf(g *gate.Gate, inner driver.Connector) string {
	c, _ := inner.(*sqlite.Connector)
	if mode := c.SetsJournal(); mode != "" && g.Keeps(mode) {
		return mode
	}
	return ""
}

// sqliteOpenedReadOnly tells that a write failed because its connection was opened
// when the file could not be written, which may be long ago: nothing was done, and
// a new connection shows whether it still is so.
func sqliteOpenedReadOnly(sc *server.Conn, err error) bool {
	return sc.IsSuspect() && sqlite.Code(err) == sqlite.CodeReadOnly
}

// pragmaOf runs a PRAGMA and returns the first value that it answers.
func pragmaOf(ctx context.Context, sc *server.Conn, text string) (string, error) {
	rows, err := sc.QueryText(ctx, "PRAGMA "+text)
	if err != nil || len(rows) == 0 {
		return "", err
	}
	return rows[0][0], nil
}
