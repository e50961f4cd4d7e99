package sqltext

// explain: EXPLAIN reads, whatever it explains, unless it says ANALYZE and so executes it. MySQL also describes tables
// with it.
func (p *parser) explain(verb string) Kind {
	if verb != "EXPLAIN" && p.dialect != MySQL {
		return Write
	}
	p.next()
	if executes := p.explainOptions(); executes {
		return p.query().Kind
	}
	p.seen.described = true
	if p.isExplainable() || p.dialect == MySQL && p.isName() {
		return Read
	}
	return Write
}

// isExplainable: the list has no PRAGMA, because SQLite executes some of them while it prepares EXPLAIN PRAGMA.
func (p *parser) isExplainable() bool {
	switch p.tok.word {
	case "SELECT", "VALUES", "TABLE", "WITH", "INSERT", "UPDATE", "DELETE", "REPLACE", "MERGE":
		return true
	}
	return p.tok.is('(')
}

func (p *parser) isName() bool {
	return p.tok.kind == quoted || p.tok.kind == word && p.tok.word == ""
}

// explainOptions passes over the options of all dialects and reports whether ANALYZE is among them.
func (p *parser) explainOptions() (executes bool) {
	if p.dialect == PostgreSQL && p.tok.is('(') && !p.startsQuery(p.lookAhead()) {
		return p.explainOptionList()
	}
	for {
		switch p.tok.word {
		case "ANALYZE", "ANALYSE":
			executes = true
		case "VERBOSE", "EXTENDED", "PARTITIONS", "QUERY", "PLAN":
		case "FORMAT":
			p.skipFormat()
			continue
		default:
			return executes
		}
		p.next()
	}
}

// explainOptionList passes over PostgreSQL's (ANALYZE, COSTS OFF). The names may be quoted; ANALYZE OFF counts as
// ANALYZE.
func (p *parser) explainOptionList() (executes bool) {
	for !p.atEnd() && !p.tok.is(')') {
		if sameName(p.tok.name, "ANALYZE") || sameName(p.tok.name, "ANALYSE") {
			executes = true
		}
		p.next()
	}
	p.next()
	return executes
}

// skipFormat passes over FORMAT = name.
func (p *parser) skipFormat() {
	p.next()
	if p.tok.is('=') {
		p.next()
	}
	p.next()
}

// analyze: MariaDB's ANALYZE executes a statement and shows its plan. ANALYZE TABLE there, and everything that ANALYZE
// is elsewhere, writes statistics.
func (p *parser) analyze() Kind {
	if p.dialect != MySQL {
		return Write
	}
	p.next()
	if p.tok.word == "FORMAT" {
		p.skipFormat()
	}
	if p.tok.word == "TABLE" {
		return Write
	}
	return p.query().Kind
}
