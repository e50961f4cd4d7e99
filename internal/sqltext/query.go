package sqltext

// query recognizes what can stand where a query can: SELECT, VALUES or TABLE, in parentheses or behind WITH. Anything
// else at this place writes, or is too rare to be worth a rule, like COPY ... TO STDOUT.
func (p *parser) query() Statement {
	for {
		switch {
		case p.tok.is('('):
			p.next()
			continue
		case p.tok.word == "WITH":
			if !p.with() {
				return Statement{Verb: "WITH"}
			}
			continue
		}
		return Statement{Kind: p.queryKind(p.tok.word), Verb: p.tok.word}
	}
}

func (p *parser) queryKind(verb string) Kind {
	switch verb {
	case "SELECT", "VALUES":
		return Read
	case "TABLE":
		if p.dialect != SQLite {
			return Read
		}
	}
	return Write
}

// with passes over WITH and its list, up to the main query:
//
//	WITH [RECURSIVE] name [(columns)] AS [[NOT] MATERIALIZED] (query) [SEARCH ...] [CYCLE ...], ...
//
// It reports false unless the list has this form and its queries begin like ones that read.
func (p *parser) with() bool {
	p.next()
	if p.tok.word == "RECURSIVE" {
		p.next()
	}
	for p.commonTable() {
		if !p.tok.is(',') {
			return true
		}
		p.next()
	}
	return false
}

// commonTable passes over one entry of the list.
func (p *parser) commonTable() bool {
	alters := p.seen.alters
	p.next()               // its name, which may be a keyword
	p.seen.alters = alters // with a list of columns it looks like a call
	if p.tok.is('(') && !p.skipParentheses() {
		return false
	}
	if p.tok.word != "AS" {
		return false
	}
	p.next()
	p.skipMaterialized()
	if !p.tok.is('(') || !p.startsQuery(p.lookAhead()) || !p.skipParentheses() {
		return false
	}
	if p.tok.word == "SEARCH" {
		p.skipBehind("SET")
	}
	if p.tok.word == "CYCLE" {
		p.skipBehind("USING")
	}
	return true
}

// skipMaterialized compares names, since watch takes what follows AS for an alias.
func (p *parser) skipMaterialized() {
	if sameName(p.tok.name, "NOT") {
		p.next()
	}
	if sameName(p.tok.name, "MATERIALIZED") {
		p.next()
	}
}

// startsQuery reports whether t begins something that reads; what follows behind a parenthesis or WITH is left to the
// keywords that watch looks for.
func (p *parser) startsQuery(t token) bool {
	return t.is('(') || t.word == "WITH" || p.queryKind(t.word) == Read
}

// lookAhead returns the token behind the current one and stays where it is.
func (p *parser) lookAhead() token {
	ahead := p.lexer
	return ahead.next()
}

// skipParentheses passes from an opening parenthesis to behind its closing one.
func (p *parser) skipParentheses() bool {
	for depth := 0; !p.atEnd(); {
		switch {
		case p.tok.is('('):
			depth++
		case p.tok.is(')'):
			depth--
		}
		p.next()
		if depth == 0 {
			return true
		}
	}
	return false
}

// skipBehind passes over the next keyword of that name and the name that follows it.
func (p *parser) skipBehind(keyword string) {
	for !p.atEnd() && p.tok.word != keyword {
		p.next()
	}
	p.next()
	p.next()
}
