package sqltext

// parser walks once over the tokens of a query. The method that recognizes a form goes as far as it must to know it;
// the rest of the statement is passed over, and what is seen on the way (watch.go) can still turn a Read into a Write.
type parser struct {
	dialect Dialect
	lexer   lexer
	prev    token
	tok     token
	seen    sightings
}

// classify is Classify for plain text and a dialect other than Generic.
func classify(d Dialect, query string) Statement {
	p := parser{dialect: d, lexer: lexer{dialect: d, text: query}}
	s := p.text()
	switch {
	case !p.seen.broken:
		return s
	case p.lexer.fault == ambiguous:
		return classifyReadings(d, query)
	}
	return unclear(s.Verb)
}

// text classifies all of the text, which is of no use if something broken is seen.
func (p *parser) text() Statement {
	p.advance()
	s := p.statement()
	for p.skipSemicolons(); p.tok.kind != end; p.skipSemicolons() {
		s.add(p.statement())
	}
	s.DDL = s.DDL || p.seen.makesTable && s.Kind != Read
	s.Settles, s.Alters = p.seen.settles, p.seen.alters
	return s
}

// add makes s the sum of itself and the statement t that follows it in the same string.
func (s *Statement) add(t Statement) {
	if s.Kind == Empty {
		*s = t
		return
	}
	s.mayBe(s.Kind)
	s.mayBe(t.Kind)
	kind := Write
	if s.Kind == Session && t.Kind == Session {
		kind = Session
	}
	*s = Statement{
		Kind:        kind,
		Verb:        s.Verb,
		Multi:       true,
		DDL:         s.DDL || t.DDL,
		LocksTables: s.LocksTables || t.LocksTables,
		MayBegin:    s.MayBegin || t.MayBegin || s.Chain || t.Chain,
		MayEnd:      s.MayEnd || t.MayEnd,
	}
}

// next goes to the next token of the statement. It stays at the statement's end, so that no form, looking for what is
// missing, runs into the statement behind.
func (p *parser) next() {
	if !p.atEnd() {
		p.advance()
	}
}

func (p *parser) atEnd() bool { return p.tok.kind == end || p.tok.is(';') }

func (p *parser) advance() {
	p.prev, p.tok = p.tok, p.lexer.next()
	p.watch()
	p.watchString()
	p.watchCall()
	p.watchInto()
}

func (p *parser) skipSemicolons() {
	for p.tok.is(';') {
		p.seen.semicolon = true
		p.advance()
	}
}

// statement classifies the statement at the current token and passes over it.
func (p *parser) statement() Statement {
	if p.atEnd() {
		return Statement{Kind: Empty}
	}
	first, start := p.tok.word, p.lexer.pos-len(p.tok.name) // if it is a bare word
	rest := p.lexer
	s := p.form()
	p.seen.alters = max(p.seen.alters, p.verbAlters(&s, rest))
	p.addEffects(&s)
	for !p.atEnd() {
		p.next()
	}
	if s.Kind == Read && !p.seen.onlyReading() {
		s.Kind = Write
	}
	if s.Kind == Write && p.mayBeSession(s, first) && p.concernsSession(start) {
		s.Kind = Session
	}
	return s
}

// form recognizes a statement by its first words.
func (p *parser) form() Statement {
	switch verb := p.tok.word; verb {
	case "BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE", "PREPARE":
		return p.transactionControl(verb)
	case "EXPLAIN", "DESCRIBE", "DESC":
		return Statement{Kind: p.explain(verb), Verb: verb}
	case "ANALYZE":
		return Statement{Kind: p.analyze(), Verb: verb}
	case "SHOW":
		return Statement{Kind: p.show(), Verb: verb}
	case "PRAGMA":
		return Statement{Kind: p.pragma(), Verb: verb}
	case "COPY", "DECLARE", "FETCH", "MOVE":
		return Statement{Kind: p.postgresForm(verb), Verb: verb}
	case "HANDLER", "HELP", "CHECKSUM":
		return Statement{Kind: p.mysqlForm(verb), Verb: verb}
	}
	return p.query()
}

func (p *parser) show() Kind {
	p.seen.described = true
	if p.dialect == SQLite {
		return Write
	}
	return Read
}
