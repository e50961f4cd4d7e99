package sqltext

import "strings"

// A functionList names the functions of an engine that do more than read although a SELECT may call them: they change
// data, take or release locks, start a transaction ID, or run SQL given as text. Names are in upper case.
type functionList struct {
	names    map[string]bool
	prefixes []string
}

// writingFunctions is indexed by dialect. Generic has none, being the union of the others.
var writingFunctions = [...]functionList{
	SQLite:     sqliteFunctions,
	PostgreSQL: postgresFunctions,
	MySQL:      mysqlFunctions,
}

// https://sqlite.org/lang_corefunc.html#load_extension, https://sqlite.org/cli.html#file_i_o_functions,
// https://sqlite.org/fts3.html#optimize, ext/misc/eval.c of SQLite's source; then SQLCipher and SpatiaLite, whose
// usual set-up is written as SELECT.
var sqliteFunctions = functionList{names: nameSet(`
	LOAD_EXTENSION WRITEFILE EDIT EVAL OPTIMIZE FTS3_TOKENIZER
	SQLCIPHER_EXPORT
	INITSPATIALMETADATA INITSPATIALMETADATAFULL ADDGEOMETRYCOLUMN RECOVERGEOMETRYCOLUMN DISCARDGEOMETRYCOLUMN
	CREATESPATIALINDEX DISABLESPATIALINDEX CREATEMBRCACHE`)}

// The volatile functions of pg_proc (PostgreSQL 15) that do not just report something, and those of other versions:
// functions-sequence.html, functions-admin.html, functions-info.html, functions-xml.html and lo-funcs.html below
// https://www.postgresql.org/docs/current/; then dblink, adminpack, PostGIS and TimescaleDB. Those that run SQL given as
// text are listed even where they refuse an INSERT, since the text may call nextval.
var postgresFunctions = functionList{
	names: nameSet(`
		NEXTVAL SETVAL SET_CONFIG SETSEED
		LO_CREAT LO_CREATE LO_IMPORT LO_EXPORT LO_UNLINK LO_PUT LO_FROM_BYTEA LO_OPEN LO_CLOSE LO_LSEEK LO_LSEEK64
		LO_TRUNCATE LO_TRUNCATE64 LOREAD LOWRITE
		TXID_CURRENT PG_CURRENT_XACT_ID PG_EXPORT_SNAPSHOT
		PG_NOTIFY PG_CANCEL_BACKEND PG_TERMINATE_BACKEND PG_RELOAD_CONF PG_PROMOTE
		PG_SWITCH_WAL PG_SWITCH_XLOG PG_WAL_REPLAY_PAUSE PG_WAL_REPLAY_RESUME
		PG_BACKUP_START PG_BACKUP_STOP PG_START_BACKUP PG_STOP_BACKUP
		PG_COPY_LOGICAL_REPLICATION_SLOT PG_COPY_PHYSICAL_REPLICATION_SLOT PG_DROP_REPLICATION_SLOT
		PG_SYNC_REPLICATION_SLOTS PG_NEXTOID PG_IMPORT_SYSTEM_COLLATIONS PG_EXTENSION_CONFIG_DUMP
		PG_STAT_CLEAR_SNAPSHOT PG_STAT_FORCE_NEXT_FLUSH PG_STAT_STATEMENTS_RESET
		PG_LOG_BACKEND_MEMORY_CONTEXTS PG_LOG_STANDBY_SNAPSHOT
		PG_RESTORE_RELATION_STATS PG_CLEAR_RELATION_STATS PG_RESTORE_ATTRIBUTE_STATS PG_CLEAR_ATTRIBUTE_STATS
		PG_FILE_WRITE PG_FILE_RENAME PG_FILE_UNLINK PG_FILE_SYNC
		GIN_CLEAN_PENDING_LIST
		QUERY_TO_XML QUERY_TO_XMLSCHEMA QUERY_TO_XML_AND_XMLSCHEMA CURSOR_TO_XML CURSOR_TO_XMLSCHEMA TS_STAT TS_REWRITE
		ADDGEOMETRYCOLUMN DROPGEOMETRYCOLUMN DROPGEOMETRYTABLE UPDATEGEOMETRYSRID POPULATE_GEOMETRY_COLUMNS
		CREATE_HYPERTABLE DROP_CHUNKS`),
	prefixes: []string{
		"BINARY_UPGRADE_", "BRIN_SUMMARIZE_", "BRIN_DESUMMARIZE_", "DBLINK", "PG_ADVISORY_", "PG_CREATE_",
		"PG_LOGICAL_", "PG_REPLICATION_", "PG_ROTATE_LOGFILE", "PG_STAT_RESET", "PG_TRY_ADVISORY_",
	},
}

// https://dev.mysql.com/doc/refman/8.4/en/locking-functions.html, .../locking-service.html,
// .../group-replication-functions.html, .../replication-functions-async-failover.html, .../keyring-functions-general-purpose.html;
// https://mariadb.com/kb/en/sequence-functions/, https://mariadb.com/kb/en/spider-functions/; lib_mysqludf_sys.
// LAST_INSERT_ID writes only when it has an argument, which the parser looks at.
var mysqlFunctions = functionList{
	names: nameSet(`
		GET_LOCK RELEASE_LOCK RELEASE_ALL_LOCKS NEXTVAL SETVAL
		SERVICE_GET_READ_LOCKS SERVICE_GET_WRITE_LOCKS SERVICE_RELEASE_LOCKS
		KEYRING_KEY_STORE KEYRING_KEY_GENERATE KEYRING_KEY_REMOVE
		SYS_EXEC SYS_EVAL SYS_SET`),
	prefixes: []string{"ASYNCHRONOUS_CONNECTION_FAILOVER_", "GROUP_REPLICATION_", "SPIDER_"},
}

// nameSet makes a set of the names in a text.
func nameSet(names string) map[string]bool {
	m := make(map[string]bool)
	for _, name := range strings.Fields(names) {
		m[name] = true
	}
	return m
}

// writes reports whether the function called name, in whatever case, does more than read in dialect d.
func (d Dialect) writes(name string) bool { return writingFunctions[d].has(name) }

// has reports whether name, in whatever case, is in the list.
func (list *functionList) has(name string) bool {
	var buf [maxName]byte
	folded := upper(&buf, name)
	if list.names[string(folded)] {
		return true
	}
	for _, prefix := range list.prefixes {
		if len(folded) >= len(prefix) && string(folded[:len(prefix)]) == prefix {
			return true
		}
	}
	return false
}
