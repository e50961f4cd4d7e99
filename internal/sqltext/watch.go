package sqltext

// sightings are what makes a statement a write wherever it stands in it: in a subquery, in a common table expression,
// behind the FROM clause. They are collected over the whole text, because text of several statements is a Write anyway.
type sightings struct {
	broken    bool // the text cannot be taken apart with certainty
	writeCall bool // a call, or what amounts to one, that does more than read
	writeVerb bool // a keyword that does not occur in a statement that only reads
	described bool // set by forms that name verbs without doing what they say: EXPLAIN, SHOW

	sessionCall  bool // a call that concerns nothing but the session
	semicolon    bool // there is, or may be, more than one statement
	lastInsertID bool // the current token is the parenthesis behind MySQL's LAST_INSERT_ID
	arguments    bool // the last opening parenthesis stood behind a name, which is no keyword

	settles    Settles
	string     bool // the current token is a string of PostgreSQL
	alters     Alters
	callee     callee // the last name
	makesTable bool   // PostgreSQL's SELECT ... INTO
}

func (s *sightings) onlyReading() bool {
	return !s.writeCall && (!s.writeVerb || s.described)
}

// watch looks at each new token, once.
func (p *parser) watch() {
	if p.tok.kind == broken {
		p.seen.broken = true
		p.tok = token{kind: end}
	}
	if p.tok.word != "" && (p.prev.is('.') || p.prev.word == "AS" || p.isColumn()) {
		p.tok.word = "" // a column or an alias, which may be called like a keyword
	}
	if p.tok.is('(') {
		p.seen.arguments = p.prev.kind == word && p.prev.word == "" && !sameName(p.prev.name, "MATERIALIZED")
	}
	if p.isWriteVerb() {
		p.seen.writeVerb = true
	}
	if p.isWriteCall() || p.dialect == MySQL && p.isMySQLWriteCall() || p.dialect == SQLite && p.isPragmaTable() {
		p.seen.writeCall = true
	}
}

// isColumn reports whether the current token stands where only an expression can, and no statement: PostgreSQL's
// columns may be called update or delete. At any other place such a word is taken for what it says. Behind an opening
// bracket it is a statement in CockroachDB, behind a parenthesis in a common table expression, and in FINAL TABLE (...)
// of DB2.
func (p *parser) isColumn() bool {
	switch p.tok.word {
	case "UPDATE", "DELETE", "INSERT", "MERGE", "UPSERT", "REPLACE", "TRUNCATE", "DROP", "ALTER", "REVOKE", "SHARE":
	default:
		return false
	}
	switch p.prev.word {
	case "SELECT", "DISTINCT", "WHERE", "AND", "OR", "NOT", "BY", "HAVING", "CASE", "WHEN", "THEN", "ELSE":
		return true
	}
	if p.prev.kind != symbol {
		return false
	}
	switch p.prev.char {
	case ',', '=', '<', '>', '+', '-', '/', '%', '|', '&', '!', '~', '^':
		return true
	case '(':
		return p.seen.arguments
	}
	return false
}

// isWriteVerb reports whether the current token, or the one before it, is a keyword that no reading statement contains.
// The three that are also functions are only known by the token behind them.
func (p *parser) isWriteVerb() bool {
	switch p.prev.word {
	case "INSERT", "REPLACE", "TRUNCATE":
		if !p.tok.is('(') {
			return true
		}
	}
	switch p.tok.word {
	case "UPDATE", // also FOR UPDATE and FOR NO KEY UPDATE, which lock rows
		"DELETE", "MERGE", "UPSERT", "CREATE", "DROP", "ALTER", "GRANT", "REVOKE",
		"INTO": // a new table, a file on the server, a variable of the connection
		return true
	case "SHARE": // FOR SHARE, FOR KEY SHARE, LOCK IN SHARE MODE
		return p.prev.word == "FOR" || p.prev.word == "KEY" || p.prev.word == "IN"
	}
	return false
}

func (p *parser) isWriteCall() bool {
	if !p.tok.is('(') || !p.prev.isNamed() {
		return false
	}
	if p.dialect.concernsSession(p.prev.name) {
		p.seen.sessionCall = true
	}
	return p.dialect.writes(p.seen.callee.qualifier, p.prev.name)
}

// isPragmaTable: SQLite has a table, pragma_optimize, of nearly every PRAGMA with a result, and reading it does what the
// PRAGMA does. Its name may also be written as a string.
func (p *parser) isPragmaTable() bool {
	const prefix = "PRAGMA_"
	if len(p.tok.name) < len(prefix) || p.tok.name[0]|0x20 != 'p' || !sameName(p.tok.name[:len(prefix)], prefix) {
		return false
	}
	var buf [maxName]byte
	folded := upper(&buf, p.tok.name[len(prefix):])
	return !pragmaReports[string(folded)] && !pragmaValues[string(folded)] && string(folded) != "LIST" // PRAGMA pragma_list
}

// isMySQLWriteCall: @x := 1, LAST_INSERT_ID(1), MariaDB's NEXT VALUE FOR s, and s.NEXTVAL of its Oracle mode.
func (p *parser) isMySQLWriteCall() bool {
	if p.seen.lastInsertID {
		p.seen.lastInsertID = false
		return !p.tok.is(')')
	}
	switch {
	case p.tok.is('('):
		p.seen.lastInsertID = sameName(p.prev.name, "LAST_INSERT_ID")
	case p.tok.is('='):
		return p.prev.is(':')
	case p.tok.word == "VALUE":
		return p.prev.word == "NEXT"
	case p.prev.is('.'):
		return sameName(p.tok.name, "NEXTVAL")
	}
	return false
}
