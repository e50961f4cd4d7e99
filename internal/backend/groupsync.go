package backend

import (
	"context"
	"errors"
	"fmt"

	"github.com/calmdocs/dblocker/internal/seen"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqlite"
)

// useGroupSync has the connections of the backend share their syncs, if that is asked for, and there is something to sync.
func (b *Backend) useGroupSync() {
	if b.cfg.GroupSync && b.Gate != nil && !b.ReadOnly {
		b.WAL = &b.Database.WAL
		b.Attached.Sync()
		b.Combining.WAL = b.WAL
	}
}

// SetSynchronous has a connection leave the syncs of its commits to others, if the file is in the journal mode for
// that; else it makes them itself. journal is "" if that is not known: then the statement that the connection is for will meet
// the reason.
func (b *Backend) SetSynchronous(ctx context.Context, sc *server.Conn, journal string) error {
	if b.WAL == nil {
		return nil
	}
	sc.Relaxed = true // in case that the connection cannot be asked for anything
	if journal == "" {
		return nil
	}
	isFile, there, err := b.findWAL(ctx, sc, journal)
	if err != nil || !isFile {
		return ctx.Err()
	}
	sc.Relaxed = there
	if sc.IsBorrowed() {
		return b.leaveSynchronous(ctx, sc)
	}
	level := "NORMAL"
	if !there {
		level = sqlite.EachSynced
		b.tellFull(journal)
	}
	_, err = sc.ExecContext(ctx, "PRAGMA synchronous = "+level, nil)
	return err
}

// leaveSynchronous is SetSynchronous for a connection that goes back to where it was borrowed, and is to be there as it was.
func (b *Backend) leaveSynchronous(ctx context.Context, sc *server.Conn) error {
	level, err := sqlite.Pragma(ctx, sc, "synchronous")
	switch {
	case err != nil:
		return err
	case level == "0":
		return errors.New("dblocker: durability=group has each write on disk before it is answered, and the connection was opened elsewhere with synchronous=OFF, with which nothing is ever synced; open it with NORMAL or FULL")
	case level != "1":
		sc.Relaxed = false
	}
	return nil
}

// findWAL looks for the WAL of the connection, and opens it for its syncs. isFile: the database is one.
func (b *Backend) findWAL(ctx context.Context, sc *server.Conn, journal string) (isFile, there bool, err error) {
	if b.sqlite != nil && !b.sqlite.IsOfAFile() {
		return false, false, nil
	}
	if !b.WAL.HasPlace() {
		path, err := sqlite.MainFile(ctx, sc)
		if err != nil || path == "" {
			return false, false, err
		}
		b.WAL.Place(sqlite.ResolvePath(path))
	}
	if journal != "wal" {
		return true, false, nil
	}
	if there, err = b.WAL.Follow(); err == nil && !there {
		// SQLite makes it no earlier than it reads in WAL mode for the first time.
		if _, err = sc.QueryText(ctx, "SELECT 1 FROM sqlite_master LIMIT 1"); err != nil {
			return true, false, err
		}
		there, err = b.WAL.Follow()
	}
	if err != nil {
		b.cfg.Servers.Logger.Warn("dblocker: the write-ahead log of a SQLite file cannot be opened to sync it: each commit is synced by itself", "file", b.sqlite.Name(), "error", err)
	}
	return true, there && err == nil, nil
}

// tellFull logs, once, that durability=group has nothing to share.
func (b *Backend) tellFull(journal string) {
	path := b.sqlite.Name()
	if toldFull.IsNew(fmt.Sprintf("%p %s %s", b.cfg.Servers.Logger, path, journal)) {
		b.cfg.Servers.Logger.Info("dblocker: durability=group: the SQLite file has no write-ahead log that dblocker could sync, so each commit is synced by itself (PRAGMA synchronous=EXTRA)",
			"file", path, "journal_mode", journal)
	}
}

// toldFull are the files, and their journal modes, of which each logger was told.
var toldFull seen.Set
