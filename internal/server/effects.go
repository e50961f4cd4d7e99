package server

import "github.com/calmdocs/dblocker/internal/sqltext"

// NoteSchema notes that the transaction which is open changes the schema: others see it when that
// has ended.
func (sc *Conn) NoteSchema() { sc.changesSchema = true }

// HasChangedSchema tells whether it does.
func (sc *Conn) HasChangedSchema() bool { return sc.changesSchema }

// NoteSession notes what a statement has altered of the session: perhaps in a transaction, or by
// undoing what was done in one.
func (sc *Conn) NoteSession(alters sqltext.Alters, inTx, undoes bool) {
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
