package sqlite

import (
	"context"
	"fmt"
	"strings"

	"github.com/calmdocs/dblocker/internal/seen"
	"github.com/calmdocs/dblocker/internal/server"
)

// journalOf learns the journal mode of a new connection, and gives it the one that the DSN
// leaves open. c is nil if it has not made the connection. A database that cannot tell is no
// worse than on the bare driver: the statement that the connection is for will meet the reason.
func (c *Connector) journalOf(ctx context.Context, sc *server.Conn) (mode string, err error) {
	if mode, err = Pragma(ctx, sc, "journal_mode"); err != nil {
		return "", ctx.Err()
	}
	if mode != "delete" || !c.isOfAFile() || c.dsn.isReadOnly() || c.dsn.sets("journal_mode") {
		return mode, nil // in memory, or somebody's decision: "delete" is SQLite's default
	}
	return c.preferWAL(ctx, mode, sc)
}

// preferWAL puts a new or empty database into WAL mode, in which readers and the
// writer do not wait for each other. Of others it says how: the change is written
// into the file, and not every backup and file system is up to it.
func (c *Connector) preferWAL(ctx context.Context, mode string, sc *server.Conn) (string, error) {
	if !c.isEmpty() {
		c.logJournal(mode)
		return mode, nil
	}
	if pages, err := Pragma(ctx, sc, "page_count"); err != nil {
		return mode, ctx.Err()
	} else if pages != "0" {
		c.logJournal(mode)
		return mode, nil
	}
	if journal, err := Pragma(ctx, sc, "journal_mode = WAL"); err == nil {
		mode = journal
	}
	return mode, ctx.Err()
}

// setsJournal returns the journal mode that the driver sets on each connection, which is also
// its first read; "" if it sets none, or is not known.
func (c *Connector) setsJournal() string {
	if !c.isOfAFile() || c.dsn.library.params == 0 {
		return ""
	}
	return strings.ToLower(c.dsn.library.pragmaValue(c.dsn.params, "journal_mode"))
}

// isEmpty tells whether there may be nothing in the file.
func (c *Connector) isEmpty() bool {
	file := StatFile(c.opened().path)
	return file == nil || file.Size() == 0
}

func (c *Connector) logJournal(mode string) {
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
//
// What could not be written is none: the connections are good, and their end would be that of the index of the log. Without
// that SQLite takes a commit whose sync has failed for one that was made, since it finds it in the log.
func (c *Connector) isOfTheFile(err error) bool {
	switch Code(err) {
	case codeIOErr:
		return !failedToWrite(err)
	case codeCorrupt, CodeCantOpen, codeNotADB:
		return true
	case CodeReadOnly:
		return !c.dsn.isReadOnly()
	}
	return false
}
