package dblocker

import (
	"strings"

	"github.com/calmdocs/dblocker/internal/sqltext"
)

// noteEffects notes what a statement that was executed, or has failed, may have done
// to the statements that are kept: those of its own connection, and if it has changed the
// schema, those of all handles on the database, whether this one keeps any or not.
func (c *conn) noteEffects(s *sending) {
	st := s.statement
	if st.Kind == sqltext.Read && st.Alters == sqltext.AltersNothing {
		return
	}
	sc := c.drawn.sc
	temporary := st.DDL && sqltext.Contains(s.query, "TEMP") // perhaps by the name of a schema
	if st.DDL && !(temporary && onlyTemporary(st, s.query)) {
		c.pool.database.schema.Add(1)
		if sc != nil && c.mayBeInTx(st) {
			sc.changesSchema = true // and again when others see it
		}
	}
	if sc == nil {
		return
	}
	if sc.changesSchema && endsOrUndoes(st) {
		c.pool.database.schema.Add(1)
	}
	c.noteSession(&sc.cache, st, temporary)
}

// noteSession is the part of noteEffects that concerns the session.
func (c *conn) noteSession(cache *stmtCache, st sqltext.Statement, temporary bool) {
	alters := st.Alters
	if temporary || st.Multi {
		alters = sqltext.AltersSession
	}
	cache.altered(alters)
	if c.mayBeInTx(st) {
		cache.unsettled = max(cache.unsettled, alters)
	}
	if endsOrUndoes(st) {
		cache.altered(cache.unsettled)
	}
}

// noteRaw is noteEffects for what the program does with the inner connection.
func (c *conn) noteRaw() {
	if sc := c.drawn.sc; sc != nil {
		c.noteSession(&sc.cache, sqltext.Statement{Multi: true}, false)
	}
}

// mayBeInTx tells whether the connection may be in a transaction behind a statement,
// which may itself have begun it.
func (c *conn) mayBeInTx(st sqltext.Statement) bool {
	return c.scopeOnServer() != nil || st.MayBegin || st.Multi
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

// noteEnd is noteEffects for the end of a transaction, which undoes what was
// done for the transaction only, and if it is rolled back, the rest; or shows to others
// what it has made of the schema. The server connection may be nil.
func (c *conn) noteEnd(sc *serverConn) { c.pool.noteEnd(sc) }

func (p *pool) noteEnd(sc *serverConn) {
	if sc == nil {
		return
	}
	if sc.changesSchema {
		sc.changesSchema = false
		p.database.schema.Add(1)
	}
	sc.cache.settle()
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
