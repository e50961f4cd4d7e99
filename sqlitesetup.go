package dblocker

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strings"

	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/seen"
)

// setUpSQLite learns the journal mode of a new connection and gives it the defaults
// that the DSN leaves open. A database that cannot tell is no worse than on the
// bare driver: the statement that the connection is for will meet the reason.
func setUpSQLite(ctx context.Context, inner driver.Connector, sc *serverConn) error {
	c, ok := inner.(*sqliteConnector)
	if ok && c.dsn.kind() == sqliteFile {
		sc.trust, sc.madeAt, sc.suspect = &c.trust, c.trust.Load(), c.isOfTheFile
	}
	if sc.journal != "" {
		return nil
	}
	var err error
	if sc.journal, err = sc.pragma(ctx, "journal_mode"); err != nil {
		return ctx.Err()
	}
	if !ok || sc.journal != "delete" || c.dsn.kind() != sqliteFile || c.dsn.isReadOnly() || c.dsn.sets("journal_mode") {
		return nil // in memory, or somebody's decision: "delete" is SQLite's default
	}
	return c.preferWAL(ctx, sc)
}

// journalOf returns the journal mode of a connection that inner has made beside another, if
// that need not be asked for: the driver has set it, which also was the first read, and it is
// the one that the other connection keeps the file in, or has left it in.
func journalOf(g *gate.Gate, inner driver.Connector) string {
	c, ok := inner.(*sqliteConnector)
	if !ok || c.dsn.kind() != sqliteFile || c.dsn.library.params == 0 {
		return ""
	}
	mode := strings.ToLower(c.dsn.library.pragmaValue(c.dsn.params, "journal_mode"))
	if mode == "" || !g.Keeps(mode) {
		return ""
	}
	return mode
}

// preferWAL puts a new or empty database into WAL mode, in which readers and the
// writer do not wait for each other. Of others it says how: the change is written
// into the file, and not every backup and file system is up to it.
func (c *sqliteConnector) preferWAL(ctx context.Context, sc *serverConn) error {
	if !c.isEmpty() {
		c.logJournal(sc.journal)
		return nil
	}
	if pages, err := sc.pragma(ctx, "page_count"); err != nil {
		return ctx.Err()
	} else if pages != "0" {
		c.logJournal(sc.journal)
		return nil
	}
	if journal, err := sc.pragma(ctx, "journal_mode = WAL"); err == nil {
		sc.journal = journal
	}
	return ctx.Err()
}

// isEmpty tells whether there may be nothing in the file.
func (c *sqliteConnector) isEmpty() bool {
	file := statFile(c.opened().path)
	return file == nil || file.Size() == 0
}

func (c *sqliteConnector) logJournal(mode string) {
	if !toldJournals.IsNew(fmt.Sprintf("%p %s", c.logger, c.opened().path)) {
		return
	}
	c.logger.Info("dblocker: the SQLite file is not in WAL mode, so that readers wait for the writer; to change it for good, add the parameter to the DSN once",
		"file", c.dsn.path, "journal_mode", mode, "parameter", c.dsn.library.walParam())
}

// toldJournals are the files of whose journal mode each logger was told.
var toldJournals seen.Set

// isOfTheFile tells whether err may come from what the file was when a connection
// opened it: damaged, read-only, out of reach. Who puts that right often does so
// with another file in its place, or another permission on it, of which a connection
// that is open learns nothing.
func (c *sqliteConnector) isOfTheFile(err error) bool {
	switch sqliteCode(err) {
	case sqliteIOErr, sqliteCorrupt, sqliteCantOpen, sqliteNotADB:
		return true
	case sqliteReadOnly:
		return !c.dsn.isReadOnly()
	}
	return false
}

// sqliteOpenedReadOnly tells that a write failed because its connection was opened
// when the file could not be written, which may be long ago: nothing was done, and
// a new connection shows whether it still is so.
func sqliteOpenedReadOnly(sc *serverConn, err error) bool {
	return sc.isSuspect() && sqliteCode(err) == sqliteReadOnly
}

// pragma runs a PRAGMA and returns the first value that it answers.
func (sc *serverConn) pragma(ctx context.Context, text string) (string, error) {
	rows, err := sc.queryText(ctx, "PRAGMA "+text)
	if err != nil || len(rows) == 0 {
		return "", err
	}
	return rows[0][0], nil
}
