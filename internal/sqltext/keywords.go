package sqltext

// keywords holds the words that this package looks at. That a word is missing is safe: a statement that begins with it
// is a Write.
var keywords = makeKeywords(
	// First words of statements.
	"ABORT", "ALTER", "ANALYSE", "ANALYZE", "ATTACH", "BACKUP", "BEGIN", "BINLOG", "CACHE", "CALL", "CHANGE", "CHECK",
	"CHECKPOINT", "CHECKSUM", "CLOSE", "CLUSTER", "COMMENT", "COMMIT", "COPY", "CREATE", "DEALLOCATE", "DECLARE",
	"DELETE", "DESC", "DESCRIBE", "DETACH", "DISCARD", "DO", "DROP", "END", "EXEC", "EXECUTE", "EXPLAIN", "FETCH",
	"FLUSH", "GET", "GRANT", "HANDLER", "HELP", "IMPORT", "INSERT", "INSTALL", "KILL", "LISTEN", "LOAD", "LOCK",
	"MERGE", "MOVE", "NOTIFY", "OPTIMIZE", "PRAGMA", "PREPARE", "PURGE", "REASSIGN", "REFRESH", "REINDEX", "RELEASE",
	"RENAME", "REPAIR", "REPLACE", "RESET", "RESIGNAL", "REVOKE", "ROLLBACK", "SAVEPOINT", "SECURITY", "SELECT", "SET",
	"SHOW", "SHUTDOWN", "SIGNAL", "START", "STOP", "TABLE", "TRUNCATE", "UNINSTALL", "UNLISTEN", "UNLOCK", "UPDATE",
	"UPSERT", "USE", "VACUUM", "VALUES", "WITH", "XA",

	// Words within statements.
	"AND", "AS", "AUTOCOMMIT", "BY", "CASE", "CHAIN", "COMPLETION_TYPE", "CONCURRENT", "CYCLE", "DEFAULT", "DEFERRABLE",
	"DEFERRED", "DISTINCT", "ELSE", "EXCLUSIVE", "EXTENDED", "FOR", "FORMAT", "HAVING", "IMMEDIATE", "IN", "INTO",
	"ISOLATION", "KEY", "NEXT", "NO", "NOT", "ONLY", "OR", "PARTITIONS", "PASSWORD", "PLAN", "PREPARED", "QUERY", "READ",
	"RECURSIVE", "SEARCH", "SHARE", "STATEMENT", "TEMPORARY", "THEN", "TO", "TRAN", "TRANSACTION", "USING", "VALUE",
	"VERBOSE", "WHEN", "WHERE", "WORK", "WRITE",
)

func makeKeywords(words ...string) map[string]string {
	m := make(map[string]string, len(words))
	for _, w := range words {
		m[w] = w
	}
	return m
}

// maxName is the length of the longest name that is looked up anywhere; PostgreSQL and MySQL allow no longer ones.
const maxName = 64

// keyword returns the constant for a keyword in whatever case, or "".
func keyword(name string) string {
	var buf [maxName]byte
	// Converting the bytes within the index expression does not allocate.
	return keywords[string(upper(&buf, name))]
}

// upper writes name in upper case to buf. A longer name is in no list, and comes out empty.
func upper(buf *[maxName]byte, name string) []byte {
	if len(name) > maxName {
		return nil
	}
	for i := range len(name) {
		c := name[i]
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		buf[i] = c
	}
	return buf[:len(name)]
}

// sameName reports whether name is the ASCII name want, which is given in upper case.
func sameName(name, want string) bool {
	var buf [maxName]byte
	return string(upper(&buf, name)) == want
}
