package sqltext

// SQLite's pragmas that only read, from https://sqlite.org/pragma.html. All others, whatever their argument, are writes:
// they change the file, the connection, or (journal_mode, optimize, wal_checkpoint) do so even without an argument.
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
	if pragmaReports[string(folded)] || p.atEnd() && pragmaValues[string(folded)] {
		return Read
	}
	return Write
}
