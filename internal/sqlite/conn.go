package sqlite

import (
	"context"
	"database/sql/driver"

	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/server"
)

// setUp learns the journal mode of a new connection.
func setUp(ctx context.Context, inner driver.Connector, sc *server.Conn, journal string) (string, error) {
	c := Of(inner)
	if c.isOfAFile() {
		sc.DistrustOn(&c.trust, c.isOfTheFile)
	}
	if journal != "" {
		return journal, nil
	}
	return c.journalOf(ctx, sc)
}

// JournalBeside returns the journal mode of a connection that c has made beside another, if
// that need not be asked for: the driver has set it, and it is the one that the other
// connection keeps the file in, or has left it in.
func (c *Connector) JournalBeside(g *gate.Gate) string {
	if mode := c.setsJournal(); mode != "" && g.Keeps(mode) {
		return mode
	}
	return ""
}

// openedReadOnly tells that a write failed because its connection was opened
// when the file could not be written, which may be long ago: nothing was done, and
// a new connection shows whether it still is so.
func openedReadOnly(sc *server.Conn, err error) bool {
	return sc.IsSuspect() && Code(err) == CodeReadOnly
}

// Pragma runs a PRAGMA and returns the first value that it answers.
func Pragma(ctx context.Context, sc *server.Conn, text string) (string, error) {
	rows, err := sc.QueryText(ctx, "PRAGMA "+text)
	if err != nil || len(rows) == 0 {
		return "", err
	}
	return rows[0][0], nil
}
