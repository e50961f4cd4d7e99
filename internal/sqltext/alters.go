package sqltext

// Alters is what a statement may do to its session so that a server would parse other statements of the session in
// another way than before.
type Alters uint8

const (
	AltersNothing Alters = iota
	AltersOwn            // only settings that the program itself has invented, such as app.user
	AltersSession        // whatever parsers look at: settings, the role, the search path, temporary tables
)

// A callee is the name that stands before an opening parenthesis.
type callee struct {
	name      string
	qualifier string // the name before its dot; "" if there is none
	before    string // the keyword in front of the whole, if one is there
}

// watchCall looks for calls of functions that may do anything to the session. Those of the program do.
func (p *parser) watchCall() {
	c := &p.seen.callee
	switch {
	case p.tok.kind == word || p.tok.kind == quoted:
		if p.prev.is('.') {
			c.qualifier = c.name
		} else {
			c.qualifier, c.before = "", p.prev.word
		}
		c.name = p.tok.name
	case p.tok.is('(') && (p.prev.kind == word || p.prev.kind == quoted):
		p.seen.alters = max(p.seen.alters, p.callAlters(c))
	}
}

func (p *parser) callAlters(c *callee) Alters {
	switch c.before {
	case "INTO", "AS", "WITH", "RECURSIVE", "COPY", "TABLE", "INSERT", "REPLACE":
		return AltersNothing // a list of columns
	}
	quiet := &quietCalls[p.dialect]
	switch {
	case quiet.names == nil:
		return AltersNothing
	case p.dialect == PostgreSQL && sameName(c.name, "SET_CONFIG"):
		return p.settingIn(p.lookAhead())
	case c.qualifier != "" && !sameName(c.qualifier, "PG_CATALOG"), !quiet.has(c.name):
		return AltersSession
	}
	return AltersNothing
}

// settingIn returns what it alters to set the setting that a string names.
func (p *parser) settingIn(t token) Alters {
	ahead := p.lexer
	if t.kind != literal || ahead.next().kind != literal {
		return AltersSession
	}
	text := ahead.text[ahead.start:ahead.pos]
	if text[0] != '\'' || !isOwnSetting(text[1:len(text)-1]) {
		return AltersSession
	}
	return AltersOwn
}

// isOwnSetting: names with a dot are those of extensions and programs.
func isOwnSetting(name string) bool {
	dots := 0
	for i := range len(name) {
		switch {
		case name[i] == '.':
			dots++
		case !isNamePart(name[i]):
			return false
		}
	}
	return dots == 1
}

// verbAlters returns what a statement of that verb alters beside its calls. rest begins behind the verb.
func (p *parser) verbAlters(s *Statement, rest lexer) Alters {
	switch s.Kind {
	case Read, Begin, Commit, Rollback, Savepoint, RollbackTo, Release, Empty:
		if s.Verb != "FETCH" && s.Verb != "MOVE" {
			return AltersNothing
		}
	}
	if p.dialect == SQLite {
		if s.Verb == "PRAGMA" {
			return AltersSession // it may change how texts are understood
		}
		return AltersNothing
	}
	switch s.Verb {
	case "SELECT", "VALUES", "TABLE", "WITH", "INSERT", "UPDATE", "DELETE", "REPLACE", "MERGE", "UPSERT",
		"EXPLAIN", "ANALYZE", "SHOW", "DESCRIBE", "DESC", "PREPARE", "COPY", "LOCK", "UNLOCK", "LISTEN", "UNLISTEN",
		"NOTIFY", "DECLARE", "CLOSE", "VACUUM", "CLUSTER", "CHECKPOINT", "COMMENT", "GRANT", "REVOKE", "REFRESH",
		"CREATE", "ALTER", "DROP", "RENAME", "TRUNCATE", "REINDEX", "IMPORT", // as far as the session goes
		"KILL", "HANDLER", "CHECKSUM", "OPTIMIZE", "REPAIR", "FLUSH", "XA":
		return AltersNothing
	case "LOAD":
		if p.dialect == MySQL { // LOAD DATA
			return AltersNothing
		}
	case "SET":
		if p.dialect == MySQL {
			return setsMySQL(rest)
		}
		return setsPostgres(rest)
	case "RESET":
		return setsPostgres(rest)
	}
	return AltersSession // CALL, DO, EXECUTE, FETCH of what calls a function, USE, DISCARD, what we have never heard of
}

// watchInto: SELECT ... INTO makes a table.
func (p *parser) watchInto() {
	if p.dialect != PostgreSQL || p.tok.word != "INTO" || p.prev.word == "INSERT" || p.prev.word == "MERGE" {
		return
	}
	if next := p.lookAhead(); sameName(next.name, "TEMP") || next.word == "TEMPORARY" {
		p.seen.alters = AltersSession
		return
	}
	p.seen.makesTable = true
}

// quietSettings have no part in how a text is parsed. Of MySQL's the bare name is enough, since its list may go on.
var quietSettings = functionList{names: nameSet(`
	TRANSACTION CONSTRAINTS STATEMENT_TIMEOUT LOCK_TIMEOUT IDLE_IN_TRANSACTION_SESSION_TIMEOUT IDLE_SESSION_TIMEOUT
	TRANSACTION_TIMEOUT APPLICATION_NAME SYNCHRONOUS_COMMIT WORK_MEM AUTOCOMMIT`)}

// setsPostgres reads the name behind SET or RESET.
func setsPostgres(rest lexer) Alters {
	t := rest.next()
	if sameName(t.name, "SESSION") || sameName(t.name, "LOCAL") {
		t = rest.next()
	}
	name := t.name
	if dot := rest.next(); dot.is('.') {
		return AltersOwn
	}
	if t.kind == word && quietSettings.has(name) {
		return AltersNothing
	}
	return AltersSession
}

// setsMySQL: the program's own variables alone alter nothing, whatever their values, and are settled by no statement.
func setsMySQL(rest lexer) Alters {
	depth := 0
	for atTarget, t := true, rest.next(); t.kind != end && !t.is(';'); t = rest.next() {
		own := t.kind == literal && rest.text[rest.start] == '@'
		if atTarget && !own && !(t.kind == word && quietSettings.has(t.name)) {
			return AltersSession
		}
		switch {
		case t.is('('):
			depth++
		case t.is(')'):
			depth--
		}
		atTarget = depth == 0 && t.is(',')
	}
	return AltersNothing
}
