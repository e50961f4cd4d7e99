package sqltext

import "strings"

// MayUndo tells whether the statement may undo what was done in the transaction that it is in.
func (s Statement) MayUndo() bool {
	switch s.Kind {
	case Commit, Rollback, RollbackTo:
		return true
	}
	return s.MayEnd
}

// OnlyTemporary tells whether a statement that changes the schema does so for its own session
// only. That it says no is safe.
func OnlyTemporary(s Statement, query string) bool {
	words := strings.Fields(query)
	if s.Multi || len(words) < 4 {
		return false
	}
	word := words[1]
	if strings.EqualFold(word, "OR") { // REPLACE
		word = words[3]
	}
	return strings.EqualFold(word, "TEMP") || strings.EqualFold(word, "TEMPORARY")
}

// addEffects sets what s does besides being of its kind. The parser stands somewhere behind the verb.
func (p *parser) addEffects(s *Statement) {
	switch s.Verb {
	case "CREATE", "ALTER", "DROP", "RENAME", "TRUNCATE", "REINDEX", "ATTACH", "DETACH", "IMPORT":
		s.DDL = true
	}
	if p.dialect == MySQL && s.Kind == Write {
		p.addMySQLEffects(s)
	}
}

// addMySQLEffects follows https://dev.mysql.com/doc/refman/8.4/en/implicit-commit.html, from the safe end: a statement
// that is not known to leave the transaction alone may do anything to it.
func (p *parser) addMySQLEffects(s *Statement) {
	switch s.Verb {
	case "SELECT", "VALUES", "TABLE", "WITH", "INSERT", "UPDATE", "DELETE", "REPLACE", "SHOW", "EXPLAIN", "DESCRIBE",
		"DESC", "USE", "DO", "HANDLER", "PREPARE", "DEALLOCATE", "KILL", "HELP", "CHECKSUM", "SIGNAL", "RESIGNAL", "GET":
	case "CREATE", "DROP":
		p.next()
		s.MayEnd = p.tok.word != "TEMPORARY"
	case "ALTER", "RENAME", "TRUNCATE", "GRANT", "REVOKE", "ANALYZE", "CACHE", "CHECK", "FLUSH", "INSTALL", "LOAD",
		"OPTIMIZE", "REPAIR", "RESET", "UNINSTALL", "UNLOCK":
		s.MayEnd = true
	case "SET":
		if p.setsTransaction() {
			s.MayBegin, s.MayEnd = true, true
		}
	case "LOCK", "BACKUP":
		s.LocksTables, s.MayBegin, s.MayEnd = true, true, true
	default: // CALL, EXECUTE, XA, BEGIN NOT ATOMIC, START and CHANGE REPLICA, what we have never heard of
		s.MayBegin, s.MayEnd = true, true
	}
}

// setsTransaction passes over the rest of a SET and reports whether it touches what begins and ends transactions. SET
// PASSWORD commits; MariaDB's SET STATEMENT ... FOR holds a statement of any kind.
func (p *parser) setsTransaction() bool {
	found := false
	for ; !p.atEnd(); p.next() {
		if p.tok.kind == literal {
			continue // a variable of the program's own
		}
		switch keyword(p.tok.name) { // not its word: the variable may be quoted or behind a dot
		case "AUTOCOMMIT", "COMPLETION_TYPE", "PASSWORD", "STATEMENT":
			found = true
		}
	}
	return found
}
