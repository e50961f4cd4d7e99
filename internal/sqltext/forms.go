package sqltext

// postgresForm recognizes what reads in PostgreSQL besides queries. A cursor does when its rows are fetched what its
// DECLARE says, and that is judged by the query that it is for.
func (p *parser) postgresForm(verb string) Kind {
	if p.dialect != PostgreSQL {
		return Write
	}
	switch verb {
	case "COPY":
		return p.copy()
	case "DECLARE":
		for !p.atEnd() && p.tok.word != "FOR" {
			p.next()
		}
		p.next()
		return p.query().Kind
	}
	return Read // FETCH, MOVE
}

// skipTableName goes behind a name, which may have a schema before it, and reports whether there is one.
func (p *parser) skipTableName() bool {
	for p.tok.isNamed() {
		if p.next(); !p.tok.is('.') {
			return true
		}
		p.next()
	}
	return false
}

// copy: COPY name [(columns)] TO STDOUT and COPY (query) TO STDOUT send rows to the client.
func (p *parser) copy() Kind {
	p.next()
	if p.tok.is('(') {
		if !p.startsQuery(p.lookAhead()) {
			return Write
		}
	} else if p.tok.word == "TO" || !p.skipTableName() {
		return Write
	}
	if p.tok.is('(') && !p.skipParentheses() {
		return Write
	}
	if p.tok.word != "TO" {
		return Write
	}
	if p.next(); p.tok.kind == word && sameName(p.tok.name, "STDOUT") {
		return Read
	}
	return Write // a file or a program of the server
}

// mysqlForm recognizes what reads in MySQL besides queries. A HANDLER that is open is the session's.
func (p *parser) mysqlForm(verb string) Kind {
	if p.dialect != MySQL {
		return Write
	}
	if verb != "HANDLER" {
		return Read // HELP 'text', CHECKSUM TABLE
	}
	for p.next(); p.tok.isNamed() || p.tok.is('.'); p.next() {
		switch {
		case p.prev.word == "HANDLER" || p.prev.is('.'): // the table, whatever it is called
		case p.tok.word == "READ":
			return Read
		case p.tok.word == "CLOSE", sameName(p.tok.name, "OPEN"):
			return Session
		}
	}
	return Write
}
