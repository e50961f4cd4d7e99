package sqltext

// sightings are what makes a statement a write wherever it stands in it: in a subquery, in a common table expression,
// behind the FROM clause. They are collected over the whole text, because text of several statements is a Write anyway.
type sightings struct {
	broken    bool // the text cannot be taken apart with certainty
	writeCall bool // a call, or what amounts to one, that does more than read
	writeVerb bool // a keyword that does not occur in a statement that only reads
	described bool // set by forms that name verbs without doing what they say: EXPLAIN, SHOW

	lastInsertID bool // the current token is the parenthesis behind MySQL's LAST_INSERT_ID

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
	if p.prev.is('.') || p.prev.word == "AS" {
		p.tok.word = "" // a column or an alias, which may be called like a keyword
	}
	if p.isWriteVerb() {
		p.seen.writeVerb = true
	}
	if p.isWriteCall() || p.dialect == MySQL && p.isMySQLWriteCall() {
		p.seen.writeCall = true
	}
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
	return p.tok.is('(') && (p.prev.kind == word || p.prev.kind == quoted) && p.dialect.writes(p.prev.name)
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
