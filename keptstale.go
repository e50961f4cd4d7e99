package dblocker

import (
	"strings"

	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

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
		c.pool.database.Schema.Add(1)
		if sc != nil && c.mayBeInTx(st) {
			sc.NoteSchema() // and again when others see it
		}
	}
	if sc == nil {
		return
	}
	if sc.HasChangedSchema() && endsOrUndoes(st) {
		c.pool.database.Schema.Add(1)
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
		c.noteSession(sc, sqltext.Statement{Multi: true}, false)
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
