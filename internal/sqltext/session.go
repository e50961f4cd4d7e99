package sqltext

// The functions that concern nothing but the session, and those that take or release locks that the program has named.
// All of them are among the writingFunctions, since beside anything else in a statement they are no reading.
// https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADVISORY-LOCKS,
// https://dev.mysql.com/doc/refman/8.4/en/locking-functions.html, .../locking-service.html
var sessionFunctions = [...]map[string]bool{
	PostgreSQL: nameSet(`
		SET_CONFIG SETSEED
		PG_ADVISORY_LOCK PG_ADVISORY_LOCK_SHARED PG_ADVISORY_XACT_LOCK PG_ADVISORY_XACT_LOCK_SHARED
		PG_TRY_ADVISORY_LOCK PG_TRY_ADVISORY_LOCK_SHARED PG_TRY_ADVISORY_XACT_LOCK PG_TRY_ADVISORY_XACT_LOCK_SHARED
		PG_ADVISORY_UNLOCK PG_ADVISORY_UNLOCK_SHARED PG_ADVISORY_UNLOCK_ALL`),
	MySQL: nameSet(`
		GET_LOCK RELEASE_LOCK RELEASE_ALL_LOCKS
		SERVICE_GET_READ_LOCKS SERVICE_GET_WRITE_LOCKS SERVICE_RELEASE_LOCKS`),
}

// pureFunctions may stand in the arguments of those and around them: what makes a key of a name, casts, and the words and
// types that are followed by a parenthesis. They are built in, and depend on nothing but their arguments, the session and
// the clock.
var pureFunctions = nameSet(`
	HASHTEXT HASHTEXTEXTENDED HASHINT2 HASHINT4 HASHINT8 HASHINT4EXTENDED HASHINT8EXTENDED HASHCHAR HASHVARLENA UUID_HASH
	HASH_NUMERIC JSONB_HASH MD5 SHA SHA1 SHA2 SHA224 SHA256 SHA384 SHA512 CRC32 DIGEST
	ABS MOD CEIL FLOOR ROUND GREATEST LEAST COALESCE IFNULL IF NULLIF ISNULL CAST CONVERT
	CONCAT CONCAT_WS FORMAT LOWER UPPER SUBSTR SUBSTRING LEFT RIGHT LPAD RPAD LTRIM RTRIM TRIM REPLACE REVERSE LENGTH
	CHAR_LENGTH ASCII ORD CONV HEX UNHEX TO_HEX ENCODE DECODE GET_BYTE SPLIT_PART QUOTE QUOTE_LITERAL QUOTE_IDENT
	CURRENT_DATABASE CURRENT_SCHEMA DATABASE SCHEMA CURRENT_USER SESSION_USER USER VERSION CONNECTION_ID PG_BACKEND_PID
	CURRENT_SETTING TO_REGCLASS TO_CHAR TO_JSON TO_JSONB JSON_BUILD_OBJECT JSONB_BUILD_OBJECT JSON_OBJECT
	NOW CURRENT_TIMESTAMP CLOCK_TIMESTAMP TRANSACTION_TIMESTAMP UNIX_TIMESTAMP UUID GEN_RANDOM_UUID RAND RANDOM
	IS_FREE_LOCK IS_USED_LOCK LAST_INSERT_ID
	SELECT DO DISTINCT AND OR NOT IS IN LIKE BETWEEN CASE WHEN THEN ELSE
	BIT VARBIT CHAR CHARACTER VARCHAR BINARY DECIMAL NUMERIC`)

// concernsSession reports whether the function called name, in whatever case, concerns nothing but the session.
func (d Dialect) concernsSession(name string) bool {
	var buf [maxName]byte
	return int(d) < len(sessionFunctions) && sessionFunctions[d][string(upper(&buf, name))]
}

// mayBeSession reports whether s, a Write whose first word is given, is worth a second look.
func (p *parser) mayBeSession(s Statement, first string) bool {
	return !s.MayBegin && !s.MayEnd && first == s.Verb && first != "" && (p.seen.sessionCall || p.isSessionVerb(first))
}

// isSessionVerb: SQLite has none of them; what it does not know it refuses, so there they may be anything.
func (p *parser) isSessionVerb(verb string) bool {
	switch verb {
	case "SET", "PREPARE", "DEALLOCATE":
		return true
	case "RESET", "LISTEN", "UNLISTEN", "DISCARD", "CLOSE":
		return p.dialect == PostgreSQL
	case "USE":
		return p.dialect == MySQL
	}
	return false
}

// concernsSession looks again at the statement, which begins at start, and reports whether it concerns nothing but the
// session. PREPARE executes nothing, and FROM @text takes it from a variable.
func (p *parser) concernsSession(start int) bool {
	q := parser{dialect: p.dialect, lexer: lexer{dialect: p.dialect, reading: p.lexer.reading, text: p.lexer.text[start:]}}
	q.advance()
	verb := q.tok.word
	q.next()
	switch verb {
	case "SET":
		return q.tok.word != "DEFAULT" && !q.atEnd() && q.isHarmless() // DEFAULT ROLE, for the next sessions
	case "SELECT", "DO":
		return q.isHarmless() && q.seen.sessionCall
	case "PREPARE":
		return q.tok.word != "TRANSACTION" || q.lookAhead().kind != literal
	}
	return p.isSessionVerb(verb) && q.isHarmless()
}

// isHarmless passes over the rest of the statement, and reports whether there is nothing in it but names, literals and
// calls of functions that read no table and concern nothing but the session.
func (p *parser) isHarmless() bool {
	for ; !p.atEnd(); p.next() {
		switch {
		case p.tok.is('('):
			if p.prev.isNamed() && !p.isHarmlessCall() {
				return false
			}
		case p.tok.is('{'): // {fn ...} of ODBC
			return false
		case p.tok.kind == word && sameName(p.tok.name, "FROM"):
			return p.isFromDual()
		case p.tok.kind != literal && reachesFar(p.tok.name):
			return false
		}
	}
	return true
}

func (p *parser) isHarmlessCall() bool {
	schema := p.seen.callee.qualifier
	if p.prev.kind != word || schema != "" && (p.dialect != PostgreSQL || !sameName(schema, "PG_CATALOG")) {
		return false
	}
	var buf [maxName]byte
	return p.dialect.concernsSession(p.prev.name) || pureFunctions[string(upper(&buf, p.prev.name))]
}

// isFromDual: MySQL's DUAL, a reserved word, is no table.
func (p *parser) isFromDual() bool {
	p.next()
	dual := p.dialect == MySQL && p.tok.kind == word && sameName(p.tok.name, "DUAL")
	p.next()
	return dual && p.atEnd()
}

// reachesFar reports whether a name, wherever it stands in a statement about the session, makes it one about more.
func reachesFar(name string) bool {
	var buf [maxName]byte
	return farReaching[string(upper(&buf, name))]
}

// farReaching are names of what concerns other sessions, tables or transactions, or what the server lets this session do
// to them; and NEXT VALUE FOR a sequence.
var farReaching = nameSet(`
	GLOBAL PERSIST PERSIST_ONLY PASSWORD RESOURCE CLUSTER STATEMENT CONSTRAINTS
	SELECT TABLE VALUES WITH INTO NEXT NEXTVAL CALL EXECUTE
	AUTOCOMMIT COMPLETION_TYPE IMPLICIT_TRANSACTIONS
	WRITE TRANSACTION_READ_ONLY DEFAULT_TRANSACTION_READ_ONLY TX_READ_ONLY`)
