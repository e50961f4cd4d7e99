package server

import (
	"sync/atomic"

	"github.com/calmdocs/dblocker/internal/sqltext"
)

// NoteEffects notes what a statement that was executed, or has failed, may have done
// to the statements that are kept: those of its own connection, and if it has changed the
// schema, which is counted, those of all handles on the database, whether this one keeps any or not.
// inTx tells that it was in a transaction. sc may be nil.
func NoteEffects(sc *Conn, schema *atomic.Int64, s *Call, inTx bool) {
	st := s.Statement
	inTx = inTx || st.MayBegin || st.Multi
	temporary := st.DDL && sqltext.Contains(s.Query, "TEMP") // perhaps by the name of a schema
	if st.DDL && !(temporary && sqltext.OnlyTemporary(st, s.Query)) {
		schema.Add(1)
		if sc != nil && inTx {
			sc.changesSchema = true // it is counted again when others see it
		}
	}
	if sc == nil {
		return
	}
	if sc.changesSchema && st.MayUndo() {
		schema.Add(1)
	}
	alters := st.Alters
	if temporary || st.Multi {
		alters = sqltext.AltersSession
	}
	sc.noteSession(alters, inTx, st.MayUndo())
}

// NoteRaw is NoteEffects for what the program does with the inner connection. sc may be nil.
func (sc *Conn) NoteRaw() {
	if sc != nil {
		sc.Memo = nil
		sc.noteSession(sqltext.AltersSession, true, false)
	}
}

// noteSession notes what a statement has altered of the session: perhaps in a transaction, or by
// undoing what was done in one.
func (sc *Conn) noteSession(alters sqltext.Alters, inTx, undoes bool) {
	c := &sc.cache
	c.altered(alters)
	if inTx {
		c.unsettled = max(c.unsettled, alters)
	}
	if undoes {
		c.altered(c.unsettled)
	}
}

// EndTx notes the end of a transaction, which undoes what was done for the transaction only, and
// if it is rolled back, the rest; or shows to others what it has made of the schema. sc may be nil.
func (sc *Conn) EndTx() {
	if sc == nil {
		return
	}
	if sc.changesSchema {
		sc.changesSchema = false
		sc.schema.Add(1)
	}
	sc.cache.settle()
}
