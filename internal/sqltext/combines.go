package sqltext

// combines reports whether a statement of SQLite, which writes rows, leaves nothing on its connection and learns nothing
// from it, so that it may run in one transaction with those of others, on any connection. Its own result is another
// matter: the driver reads that before the next one runs. What is not certain is not so.
func combines(s Statement, query string) bool {
	if s.Kind != Write || s.Multi || s.DDL || s.Alters != AltersNothing {
		return false
	}
	switch s.Verb {
	case "INSERT", "REPLACE", "UPDATE", "DELETE":
	default:
		return false
	}
	l := lexer{dialect: SQLite, text: query}
	for {
		switch t := l.next(); {
		case t.kind == end:
			return true
		case t.kind == broken, t.isNamed() && isOfConnection(t.name), t.kind == literal && t.name != "" && isOfConnection(t.name):
			return false
		}
	}
}

// isOfConnection: functions that tell of the connection's last statement, or change it; tables of the connection; SQLite's
// own tables, which a program may have made writable; and RETURNING, whose rows are somebody's to read.
func isOfConnection(name string) bool {
	for _, of := range [...]string{"CHANGES", "TOTAL_CHANGES", "LAST_INSERT_ROWID", "LOAD_EXTENSION", "TEMP", "RETURNING"} {
		if sameName(name, of) {
			return true
		}
	}
	return hasPrefix(name, "SQLITE_") || hasPrefix(name, "PRAGMA_")
}

func hasPrefix(name, prefix string) bool {
	return len(name) >= len(prefix) && sameName(name[:len(prefix)], prefix)
}
