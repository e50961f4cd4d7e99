package sqltext

// transactionControl recognizes BEGIN, COMMIT and their kin in the spellings of all dialects at once: what one of them
// lacks, its engine refuses.
func (p *parser) transactionControl(verb string) Statement {
	s := Statement{Verb: verb}
	p.next()
	switch verb {
	case "BEGIN":
		p.begin(&s)
	case "START":
		if p.tok.word == "TRANSACTION" {
			s.Kind = Begin
			s.ReadOnly = p.saysReadOnly()
		}
	case "COMMIT", "END":
		if p.tok.word != "PREPARED" {
			s.Kind = Commit
			_, s.Chain = p.transactionEnd()
		}
	case "ROLLBACK", "ABORT":
		p.rollback(&s)
	case "SAVEPOINT":
		s.Kind = Savepoint
	case "RELEASE":
		s.Kind = Release
	case "PREPARE":
		p.prepare(&s)
	}
	return s
}

// begin: behind BEGIN stands nothing or a word about the transaction. Otherwise it opens a block of statements, such as
// MariaDB's BEGIN NOT ATOMIC.
func (p *parser) begin(s *Statement) {
	switch p.tok.word {
	case "WORK", "TRANSACTION", "TRAN", "DEFERRED", "IMMEDIATE", "EXCLUSIVE", "CONCURRENT", "ISOLATION", "READ",
		"DEFERRABLE":
		s.Kind = Begin
		s.Immediate = p.tok.word == "IMMEDIATE" || p.tok.word == "EXCLUSIVE"
	case "NOT":
		if p.lookAhead().word == "DEFERRABLE" {
			s.Kind = Begin
		}
	default:
		if p.atEnd() {
			s.Kind = Begin
		}
	}
	if s.Kind == Begin {
		s.ReadOnly = p.saysReadOnly()
		return
	}
	s.MayBegin, s.MayEnd = true, true
}

// saysReadOnly passes over the rest of a BEGIN. Of READ ONLY and READ WRITE the last one counts.
func (p *parser) saysReadOnly() (readOnly bool) {
	for ; !p.atEnd(); p.next() {
		switch p.tok.word {
		case "ONLY":
			readOnly = true
		case "WRITE":
			readOnly = false
		}
	}
	return readOnly
}

func (p *parser) rollback(s *Statement) {
	if p.tok.word == "PREPARED" {
		return // a transaction that is no longer this connection's
	}
	s.Kind = Rollback
	toSavepoint, chain := p.transactionEnd()
	if toSavepoint {
		s.Kind = RollbackTo
		return
	}
	s.Chain = chain
}

// transactionEnd passes over the rest of a COMMIT or ROLLBACK and reports whether it says TO and AND CHAIN.
func (p *parser) transactionEnd() (toSavepoint, chain bool) {
	for ; !p.atEnd(); p.next() {
		switch p.tok.word {
		case "TO":
			toSavepoint = true
		case "CHAIN":
			chain = p.prev.word != "NO"
		}
	}
	return toSavepoint, chain
}

// prepare tells PREPARE TRANSACTION 'id' from the preparation of a statement, even of one named transaction.
func (p *parser) prepare(s *Statement) {
	if p.dialect == PostgreSQL && p.tok.word == "TRANSACTION" && p.lookAhead().kind == literal {
		s.Kind = Commit
	}
}
