package dblocker

import (
	"context"
	"database/sql/driver"
	"strings"

	"github.com/calmdocs/dblocker/internal/callers"
	"github.com/calmdocs/dblocker/internal/combine"
	"github.com/calmdocs/dblocker/internal/engines"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// exec executes a statement, prepared as s or else given as text, under an exclusive
// lock, on a server connection.
func (c *conn) exec(op *operation, s *stmt, query string, args []driver.NamedValue) (res driver.Result, err error) {
	for tries, alone := 0, false; ; {
		res, err = c.execOnce(op, s, query, args, alone)
		if err == combine.ErrAlone {
			alone = true
		} else if !startsAnew(err, &tries) {
			return res, err
		}
	}
}

// execOnce is exec for one try. Others may run the statement unless it is to be alone.
func (c *conn) execOnce(op *operation, s *stmt, query string, args []driver.NamedValue, alone bool) (res driver.Result, err error) {
	var adm admission
	adm.read(c, s, query, args)
	adm.alone = alone
	returned := false
	defer func() {
		if !returned {
			c.abandon(&c.leaf, &adm)
		}
		c.release(&c.leaf)
	}()
	defer c.doneAttaching()
	switch err = c.admit(op, &adm, &c.leaf, rwlock.Leaf); err {
	case nil:
		res, err = c.sendExec(op, s, &adm)
	case errRidden:
		res, err = c.arrive(op.ctx, &c.leaf, adm.ride)
	}
	returned = true
	return res, err
}

// sendExec executes a statement that has its lock, and settles what it did.
func (c *conn) sendExec(op *operation, s *stmt, adm *admission) (res driver.Result, err error) {
	ctx, limit := c.limitStatement(op)
	defer limit.end()
	err = c.onServer(ctx, op, busy, func(sc *server.Conn) (err error) {
		if err := adm.raw.guard(ctx, sc); err != nil {
			return err
		}
		if adm.mayRide && c.backend.Gate.Writers() > 1 {
			res, err = c.execAndLead(ctx, sc, s, adm)
		} else {
			res, err = s.execOn(ctx, sc, &adm.Call)
		}
		return err
	})
	c.noteSent(ctx, adm, nil)
	c.noteWritten(adm.Statement)
	if err == combine.ErrLost {
		c.discard() // before others have the gate
		return nil, combine.ErrAlone
	}
	if err != nil {
		shown := limit.explain(c.transactionOnServer().explainReadOnly(err))
		c.settle(adm, err)
		c.noteDebt(adm.Statement, err)
		return nil, shown
	}
	c.spent = true
	res = server.ReadResult(res)
	c.settle(adm, nil)
	c.noteDebt(adm.Statement, nil)
	return res, nil
}

// query runs a query, prepared as s or else given as text, on a server connection,
// under the lock that the text asks for. The rows take the lock with them.
func (c *conn) query(ctx context.Context, s *stmt, query string, args []driver.NamedValue) (found driver.Rows, err error) {
	op := c.operation(ctx)
	var d debt
	err = c.callHeld(&op, func() (err error) {
		for tries := 0; ; {
			if found, err = c.queryOnce(&op, s, query, args); !startsAnew(err, &tries) {
				d = c.takeDebt(callers.Other)
				return err
			}
		}
	})
	if d.isDue() && err == nil {
		if err = c.repay(ctx, &d, nil); err != nil {
			found.Close()
			return nil, err
		}
	}
	return found, err
}

func (c *conn) queryOnce(op *operation, s *stmt, query string, args []driver.NamedValue) (found driver.Rows, err error) {
	r := c.newRows(op)
	var adm admission
	adm.read(c, s, query, args)
	returned, opened := false, false
	defer func() {
		if !returned {
			c.abandon(&r.hold.Hold, &adm)
		}
		if !opened {
			r.release()
		}
	}()
	defer c.doneAttaching()
	if err = c.admit(op, &adm, &r.hold.Hold, rwlock.Rows); err == nil {
		err = c.sendQuery(op, s, &adm, r)
	}
	if err == nil {
		found = r.public()
		c.open(r, &adm)
		opened = true
		r.oweFor(&adm)
	}
	returned = true
	return found, err
}

// sendQuery runs a query that has its lock; r are going to be its rows. What it did is settled if
// it fails, while the rows have the lock; else when they are open.
func (c *conn) sendQuery(op *operation, s *stmt, adm *admission, r *rows) error {
	r.inside = r.hold.Section()
	r.writes = adm.Statement.Kind != sqltext.Read || op.mode == askedExclusive && r.hold.Gate.IsHeld()
	ctx, limit := c.limitStatement(op)
	r.limit = limit
	err := c.onServer(ctx, op, busy, func(sc *server.Conn) (err error) {
		if err := adm.raw.guard(ctx, sc); err != nil {
			return err
		}
		if s != nil {
			return s.query(ctx, sc, &adm.Call, &r.Rows)
		}
		return sc.Query(ctx, &adm.Call, &r.Rows)
	})
	c.noteSent(ctx, adm, r)
	if r.writes {
		c.noteWritten(adm.Statement)
	}
	if err != nil {
		shown := limit.explain(c.transactionOnServer().explainReadOnly(err))
		c.settle(adm, err)
		c.noteDebt(adm.Statement, err)
		return shown
	}
	if r.hold.Gate.HasPassed() {
		c.backend.WALReader.Note()
	}
	return nil
}

// noteSent follows what a statement that was sent did, be it that it failed, to what others rely
// on: statements that are kept, the journal of the database, attached files. A read does nothing
// to these. r are its rows; nil if it is an Exec.
func (c *conn) noteSent(ctx context.Context, adm *admission, r *rows) {
	st := adm.Statement
	if st.Kind == sqltext.Read && st.Alters == sqltext.AltersNothing {
		return
	}
	if sc := c.drawn.Conn; sc != nil && !st.Combines {
		sc.Memo = nil
	}
	c.noteEffects(&adm.Call)
	if r != nil {
		c.noteJournalOf(ctx, r, st, adm.Query)
	} else {
		c.noteJournal(ctx, st, adm.Query)
	}
	c.noteAttached(ctx, r, st, adm.Query)
	c.restoreSyncs(ctx, r, st, adm.Query)
}

// settle finds out what a statement that has been executed, or has failed with
// err, did to the transaction that it ran in, or began.
func (c *conn) settle(adm *admission, err error) {
	c.noteMayBegin(adm.Statement)
	if t := c.transactionOnServer(); t != nil {
		t.noticeLoss(adm.Statement, err)
	}
	c.settleRaw(adm.raw, adm.Statement, err)
}

// noteMayBegin makes the server connection doubtful if the statement, which was executed or has failed,
// may have begun a transaction among other things. Of engines that we do not know, statements
// such as EXEC, of which any may, are too common to give up a connection for each.
func (c *conn) noteMayBegin(st sqltext.Statement) {
	if sc := c.drawn.Conn; sc != nil && st.MayBegin {
		saysSo := st.Multi || st.LocksTables || st.Verb == "SET" || st.Verb == "XA" || st.Verb == "BEGIN"
		if saysSo || c.db.engine != engines.Generic {
			sc.Doubt()
		}
	}
}

// noteEffects notes what a statement that was executed, or has failed, may have done
// to the statements that are kept: those of its own connection, and if it has changed the
// schema, those of all handles on the database, whether this one keeps any or not.
func (c *conn) noteEffects(s *server.Call) {
	st := s.Statement
	if st.Kind == sqltext.Read && st.Alters == sqltext.AltersNothing {
		return
	}
	sc := c.drawn.Conn
	temporary := st.DDL && sqltext.Contains(s.Query, "TEMP") // perhaps by the name of a schema
	if st.DDL && !(temporary && onlyTemporary(st, s.Query)) {
		c.backend.Database.Schema.Add(1)
		if sc != nil && c.mayBeInTx(st) {
			sc.NoteSchema() // and again when others see it
		}
	}
	if sc == nil {
		return
	}
	if sc.HasChangedSchema() && endsOrUndoes(st) {
		c.backend.Database.Schema.Add(1)
	}
	c.noteSession(sc, st, temporary)
}

// noteSession is the part of noteEffects that concerns the session.
func (c *conn) noteSession(sc *server.Conn, st sqltext.Statement, temporary bool) {
	alters := st.Alters
	if temporary || st.Multi {
		alters = sqltext.AltersSession
	}
	sc.NoteSession(alters, c.mayBeInTx(st), endsOrUndoes(st))
}

// noteRaw is noteEffects for what the program does with the inner connection.
func (c *conn) noteRaw() {
	if sc := c.drawn.Conn; sc != nil {
		sc.Memo = nil
		c.noteSession(sc, sqltext.Statement{Multi: true}, false)
	}
}

// mayBeInTx tells whether the connection may be in a transaction behind a statement,
// which may itself have begun it.
func (c *conn) mayBeInTx(st sqltext.Statement) bool {
	return c.transactionOnServer() != nil || st.MayBegin || st.Multi
}

// endsOrUndoes tells whether a statement may undo what was done in the transaction that
// it is in.
func endsOrUndoes(st sqltext.Statement) bool {
	switch st.Kind {
	case sqltext.Commit, sqltext.Rollback, sqltext.RollbackTo:
		return true
	}
	return st.MayEnd
}

// onlyTemporary tells whether a statement that changes the schema does so for its own session
// only. That it says no is safe.
func onlyTemporary(st sqltext.Statement, query string) bool {
	words := strings.Fields(query)
	if st.Multi || len(words) < 4 {
		return false
	}
	word := words[1]
	if strings.EqualFold(word, "OR") { // REPLACE
		word = words[3]
	}
	return strings.EqualFold(word, "TEMP") || strings.EqualFold(word, "TEMPORARY")
}
