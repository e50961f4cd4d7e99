package sqltext

import "strings"

// SQLite's pragmas that only read, and those that concern nothing but the connection, from https://sqlite.org/pragma.html.
// All others, whatever their argument, are writes: they change the file, or (optimize, wal_checkpoint) do so even without an
// argument, or take its locks (journal_mode, locking_mode).
var (
	// pragmaValues report a value when they have no argument, and set it when they have one.
	pragmaValues = nameSet(`
		ANALYSIS_LIMIT APPLICATION_ID AUTO_VACUUM AUTOMATIC_INDEX BUSY_TIMEOUT CACHE_SIZE CACHE_SPILL
		CELL_SIZE_CHECK CHECKPOINT_FULLFSYNC DATA_VERSION DEFER_FOREIGN_KEYS ENCODING FOREIGN_KEYS FREELIST_COUNT
		FULLFSYNC HARD_HEAP_LIMIT IGNORE_CHECK_CONSTRAINTS JOURNAL_SIZE_LIMIT LEGACY_ALTER_TABLE LOCKING_MODE
		MAX_PAGE_COUNT MMAP_SIZE PAGE_COUNT PAGE_SIZE QUERY_ONLY READ_UNCOMMITTED RECURSIVE_TRIGGERS
		REVERSE_UNORDERED_SELECTS SCHEMA_VERSION SECURE_DELETE SOFT_HEAP_LIMIT SYNCHRONOUS TEMP_STORE THREADS
		TRUSTED_SCHEMA USER_VERSION WAL_AUTOCHECKPOINT WRITABLE_SCHEMA`)

	// pragmaReports report, and their argument, if any, says about what.
	pragmaReports = nameSet(`
		COLLATION_LIST COMPILE_OPTIONS DATABASE_LIST FOREIGN_KEY_CHECK FOREIGN_KEY_LIST FUNCTION_LIST INDEX_INFO
		INDEX_LIST INDEX_XINFO INTEGRITY_CHECK MODULE_LIST PRAGMA_LIST QUICK_CHECK TABLE_INFO TABLE_LIST TABLE_XINFO`)

	// pragmaSettings set something of the connection when they have an argument.
	pragmaSettings = nameSet(`
		ANALYSIS_LIMIT AUTOMATIC_INDEX BUSY_TIMEOUT CACHE_SIZE CACHE_SPILL CASE_SENSITIVE_LIKE CELL_SIZE_CHECK
		CHECKPOINT_FULLFSYNC COUNT_CHANGES DEFER_FOREIGN_KEYS EMPTY_RESULT_CALLBACKS FOREIGN_KEYS FULL_COLUMN_NAMES
		FULLFSYNC HARD_HEAP_LIMIT IGNORE_CHECK_CONSTRAINTS JOURNAL_SIZE_LIMIT KEY LEGACY_ALTER_TABLE MMAP_SIZE
		READ_UNCOMMITTED RECURSIVE_TRIGGERS REVERSE_UNORDERED_SELECTS SECURE_DELETE SHORT_COLUMN_NAMES SHRINK_MEMORY
		SOFT_HEAP_LIMIT SYNCHRONOUS TEMP_STORE THREADS TRUSTED_SCHEMA WAL_AUTOCHECKPOINT`)
)

// pragma recognizes PRAGMA [schema.]name [= value | (value)].
func (p *parser) pragma() Kind {
	if p.dialect != SQLite {
		return Write
	}
	p.next()
	name := p.tok.name
	if p.next(); p.tok.is('.') {
		p.next()
		name = p.tok.name
		p.next()
	}
	var buf [maxName]byte
	folded := upper(&buf, name)
	switch {
	case pragmaReports[string(folded)] || p.atEnd() && pragmaValues[string(folded)]:
		return Read
	case pragmaSettings[string(folded)], string(folded) == "QUERY_ONLY" && p.turnsOn():
		return Session
	}
	return Write
}

// turnsOn reports whether the argument of a PRAGMA is a yes. To turn query_only off is to let the connection write.
func (p *parser) turnsOn() bool {
	value := p.lexer.text[p.lexer.pos:]
	if n := strings.IndexAny(value, ";-/"); n >= 0 { // the end, or a comment or something else that we do not look into
		value = value[:n]
	}
	value = strings.Trim(value, " \t\r\n\f\v()'\"")
	return value == "1" || sameName(value, "ON") || sameName(value, "TRUE") || sameName(value, "YES")
}
