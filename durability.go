package dblocker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/calmdocs/dblocker/internal/callers"
	"github.com/calmdocs/dblocker/internal/seen"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqlite"
	"github.com/calmdocs/dblocker/internal/sqltext"
	"github.com/calmdocs/dblocker/internal/walsync"
)

// Durability says when a write to a SQLite file is answered (DSN: durability). The default is
// [DriverDurability]. It is an error on other engines, which decide that by themselves.
func Durability(d DurabilityPolicy) Option { return option("durability", string(d)) }

// A DurabilityPolicy says when a write to a SQLite file is answered.
type DurabilityPolicy string

const (
	// DriverDurability leaves it to SQLite's synchronous, as the DSN or the driver sets it: with FULL a commit is
	// on disk when it is answered, and each has a sync of its own, while all others wait for their turn to write.
	DriverDurability DurabilityPolicy = "driver"

	// GroupDurability has each write on disk before it is answered, as with synchronous=FULL, but
	// one sync serves all who wait, and others write meanwhile. It is for files in WAL mode; in other journal modes each
	// commit is synced by itself, as with synchronous=EXTRA. It wins over the DSN's _synchronous. There are two differences from FULL: others
	// can read a commit some milliseconds before it is on disk; and if a sync fails, they have read what FULL
	// would have undone. See [ErrNotDurable].
	GroupDurability DurabilityPolicy = "group"
)

// With durability=group the connections to a SQLite file in WAL mode do not sync their commits. A call that
// has committed gives up its locks, and is answered when the WAL has been synced, by one sync for all who wait:
// see internal/walsync. What it is not to be answered before is its debt.
//
//	the statement, or COMMIT, is done    the debt is noted: from then on a sync that begins serves it
//	its locks are given up               others write, and read what it has written
//	its server connection goes back      if nothing of the session is to stay there
//	the debt is waited for               outside of all mutexes; the call's context may end that
//
// A debt is due if the server connection may have written since the last one, and no transaction is open on it any
// more. With durability=driver backend.WAL is nil, and there is no debt.

// A debt is what a call is not to be answered before: that what was committed before the mark is on disk.
type debt struct {
	log  *walsync.Log // nil if there is none
	mark walsync.Mark
	more []debt // of attached files
}

// isDue tells whether there is something to wait for.
func (d *debt) isDue() bool { return d.log != nil || d.more != nil }

// noteWritten notes that a statement which was sent may have written. Not by themselves do so what begins and ends
// transactions, and what concerns the session. A read may, by a function: the caller knows.
func (c *conn) noteWritten(st sqltext.Statement) {
	sc := c.drawn.Conn
	if c.backend.WAL == nil || sc == nil {
		return
	}
	switch st.Kind {
	case sqltext.Begin, sqltext.Commit, sqltext.Rollback, sqltext.Savepoint, sqltext.RollbackTo, sqltext.Release, sqltext.Session, sqltext.Empty:
	default:
		sc.Unsynced = true
	}
}

// noteDebt notes the debt of a call whose statement is done, or has failed with err, if it is due. One that may have ended a
// transaction and begun the next has one too. An error promises nothing, whatever was written before it.
func (c *conn) noteDebt(st sqltext.Statement, err error) {
	sc := c.drawn.Conn
	if c.backend.WAL == nil || sc == nil || !sc.Unsynced {
		return
	}
	outside := sc.HasFailed() || c.isOutside(sc, st) // one that has failed is asked for nothing
	if outside {
		sc.Unsynced = false
	}
	switch {
	case err != nil, st.Kind == sqltext.Rollback:
	case outside, st.MayEnd, st.Multi && st.MayBegin:
		c.debt = c.debtOf(sc, c.backend.WAL.Mark())
	}
}

// isOutside tells whether no transaction is open on the server connection after a statement.
func (c *conn) isOutside(sc *server.Conn, st sqltext.Statement) bool {
	if none, told := sqlite.Autocommit(sc.Inner()); told {
		return none
	}
	t := c.transactionOnServer()
	return t == nil || !t.inSQL() && st.Kind == sqltext.Commit
}

// debtOf returns the debt for what was committed on the server connection: to its file, and to those that it has attached,
// or may have had during the statement.
func (c *conn) debtOf(sc *server.Conn, m walsync.Mark) (d debt) {
	if sc.Relaxed {
		d = debt{log: c.backend.WAL, mark: m}
	}
	if sc.Attached != nil || c.expected != nil {
		for _, log := range c.backend.Attached.WALs(sc.Attached, c.expected) {
			d.more = append(d.more, debt{log: log, mark: log.Mark()})
		}
	}
	return d
}

// takeDebt returns the debt of the call, for which the caller has to wait when it has left c. The server connection goes back before
// that, if the call was one of a sql.DB, or of a statement or transaction of one, so that others have it meanwhile.
func (c *conn) takeDebt(from callers.Entry) (d debt) {
	d, c.debt = c.debt, debt{}
	if !d.isDue() || c.drawn.Conn == nil || c.pinned != nil || c.transaction != nil || c.raw != nil || c.drawn.Conn.HasRows() {
		return d
	}
	if from == callers.Unknown {
		from = c.entryPoint()
	}
	if from == callers.Handle {
		c.giveBack()
	}
	return d
}

// repay waits for a debt of a call with ctx that has come to err so far.
func (c *conn) repay(ctx context.Context, d *debt, err error) error {
	if !d.isDue() || err != nil {
		return err
	}
	c.db.syncWaits.Add(1)
	if d.log != nil {
		err = d.log.WaitTelling(ctx, d.mark, c.backend.Combining.ToldSync)
	}
	for i := range d.more {
		err = errors.Join(err, d.more[i].log.WaitTelling(ctx, d.more[i].mark, c.backend.Combining.ToldSync))
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return fmt.Errorf("dblocker: what was written is committed, and the context has ended before that was known to be on disk: %w", err)
	}
	return fmt.Errorf("%w: %w", ErrNotDurable, err)
}

// refuseUndurable returns an error for a statement that writes while a sync has failed before, unless it may be the way out
// of that.
func (c *conn) refuseUndurable(st sqltext.Statement, text string) error {
	if c.backend.WAL == nil || st.Kind != sqltext.Write || checkpoints(st, text) {
		return nil
	}
	if failed := c.backend.WAL.Failed(); failed != nil {
		return fmt.Errorf("%w: %w", errNotWritten, failed)
	}
	return nil
}

// checkpoints tells whether a statement may be a wal_checkpoint(TRUNCATE).
func checkpoints(st sqltext.Statement, text string) bool {
	return st.Kind == sqltext.Write && (st.Verb == "PRAGMA" || st.Multi) &&
		sqltext.Contains(text, "WAL_CHECKPOINT") && strings.Contains(strings.ToUpper(text), "TRUNCATE")
}

// restoreSyncs lets syncs answer again, if one has failed, and the statement was a wal_checkpoint(TRUNCATE). Not all
// ways to call it tell how it has ended. So it is done once more, while nobody else of this process can write; it
// syncs nothing anew, but what it copies. r are the rows of the statement; nil if it has none.
func (c *conn) restoreSyncs(ctx context.Context, r *rows, st sqltext.Statement, text string) {
	sc := c.drawn.Conn
	if sc == nil || c.backend.Gate == nil || !checkpoints(st, text) {
		return
	}
	logs := append(c.backend.Attached.WALs(sc.Attached), &c.backend.Database.WAL)
	failed := false
	for _, log := range logs {
		failed = failed || log.Failed() != nil
	}
	if !failed {
		return
	}
	if r != nil && r.Inner != nil {
		r.Fill(c.db.mustSpill(), func() bool { return false })
	}
	done, err := sc.QueryText(context.WithoutCancel(ctx), "PRAGMA wal_checkpoint(TRUNCATE)")
	if err != nil || len(done) != 1 || done[0][0] != "0" {
		return
	}
	for _, log := range logs {
		log.Restore()
	}
}

// oweFor makes rows, which have been opened for a statement, owe what that has committed, or will have when they end.
func (r *rows) oweFor(adm *admission) {
	c, sc := r.conn, r.conn.drawn.Conn
	switch {
	case c.backend.WAL == nil || sc == nil || !r.writes:
	case r.finished:
		c.noteDebt(adm.Statement, r.Failure())
	case !r.finished && c.isOutside(sc, adm.Statement):
		r.owes.Store(true)
	}
}

// AtEnd implements [server.RowsClient]. It is for rows of a statement that has written, and whose program reads to their
// end, or closes them, which is when SQLite commits.
func (r *rows) AtEnd(err error) error {
	if err != nil && err != io.EOF || !r.owes.CompareAndSwap(true, false) {
		return err
	}
	if r.Enter() != nil {
		return err
	}
	var d debt
	func() {
		defer r.Leave()
		if !r.released {
			r.tryFinish()
		}
		if sc := r.conn.drawn.Conn; sc != nil {
			sc.Unsynced = true // also if a later call has it synced, since that may not have ended yet
		}
		r.conn.noteDebt(sqltext.Statement{}, nil)
		d, r.conn.debt = r.conn.debt, debt{}
	}()
	if failed := r.conn.repay(context.Background(), &d, nil); failed != nil {
		return failed
	}
	return err
}

// followJournal is SetSynchronous for a connection that has changed the journal mode. Others, which were opened in another mode, go
// on to sync their commits themselves: so those that nobody uses are closed.
func (c *conn) followJournal(ctx context.Context, sc *server.Conn, journal string) {
	if c.backend.WAL == nil {
		return
	}
	if err := c.backend.SetSynchronous(context.WithoutCancel(ctx), sc, journal); err != nil {
		sc.Fail()
	}
	if journal == "wal" {
		c.backend.Database.Gate.CloseIdle()
	}
}

// refuseDurability returns an error for the option on another engine.
func (c *config) refuseDurability() error {
	if c.durability == GroupDurability && !c.engine.Gated {
		return fmt.Errorf("dblocker: option durability=group is for SQLite, and the engine is %s, where the server decides when a commit is on disk (synchronous_commit on PostgreSQL, innodb_flush_log_at_trx_commit on MySQL); leave it out", c.engine.Name)
	}
	return nil
}

// checkDurability returns an error if the option cannot do what it says, and logs what it could do.
func (c *config) checkDurability(s *sqlite.Connector) error {
	switch level := s.SetsSynchronous(); {
	case c.durability == GroupDurability && level == "OFF":
		return errors.New("dblocker: durability=group has each write on disk before it is answered, and the SQLite DSN says _synchronous=OFF, with which nothing is ever synced; leave one of them out")
	case !c.durabilitySet && (level == "FULL" || level == "EXTRA") && toldGroup.IsNew(fmt.Sprintf("%p %s", c.logger, s.Name())):
		c.logger.Info("dblocker: with _synchronous="+level+" each transaction is synced by itself, while others wait for their turn; durability=group has one sync serve all who wait, with the same promise", "file", s.Name())
	}
	return nil
}

// toldGroup are the files of whose way to sync each logger was told.
var toldGroup seen.Set
