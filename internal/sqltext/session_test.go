package sqltext

import "testing"

func TestSessionStatements(t *testing.T) {
	checkKinds(t, []kindRow{
		// SQLite has none of them, and refuses what it does not know.
		{"SET a = 1", in3, Session},
		{"set session work_mem to '1MB';", in3, Session},
		{"SET LOCAL app.tenant = 'x'", in3, Session},
		{"SET search_path TO a, \"$user\", public", in3, Session},
		{"SET ROLE r", in3, Session},
		{"SET ROLE NONE", in3, Session},
		{"SET SESSION AUTHORIZATION DEFAULT", in3, Session},
		{"SET TIME ZONE 'Europe/Berlin'", in3, Session},
		{"SET TIME ZONE -7", in3, Session},
		{"SET NAMES utf8mb4 COLLATE utf8mb4_general_ci", in3, Session},
		{"SET CHARACTER SET 'utf8'", in3, Session},
		{"SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY", in3, Session},
		{"SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED", in3, Session},
		{"SET @a = 'x', @`b` := @a + 1, SESSION sql_mode = 'ANSI'", in3, Session},
		{"SET @tenant = ?, @@session.time_zone = '+00:00', @@sql_mode = CONCAT(@@sql_mode, ',ANSI')", inM | inS | inP, Session},
		{"SET foreign_key_checks = OFF, @@LOCAL.unique_checks = (1 - 1)", in3, Session},
		{"SET @got = GET_LOCK('a', 1)", inM, Session},
		{"PREPARE p AS DELETE FROM t", in3, Session},
		{"PREPARE p FROM 'DELETE FROM t'", in3, Session},
		{"DEALLOCATE ALL", in3, Session},
		{"DEALLOCATE PREPARE p", in3, Session},
		{"RESET a", inP, Session},
		{"RESET ALL", inP, Session},
		{"RESET SESSION AUTHORIZATION", inP, Session},
		{"LISTEN c", inP, Session},
		{"UNLISTEN *", inP, Session},
		{"DISCARD ALL", inP, Session},
		{"CLOSE c", inP, Session},
		{"USE db", inM, Session},
		{"USE `db`", inM, Session},
		{"HANDLER db.t OPEN AS h", inM, Session},
		{"HANDLER h CLOSE", inM, Session},
	})
}

func TestNamedLocks(t *testing.T) {
	for _, row := range []kindRow{
		{"SELECT pg_advisory_lock(1)", inP, Session},
		{"SELECT pg_try_advisory_xact_lock_shared($1, $2)", inP, Session},
		{"SELECT pg_catalog.pg_advisory_unlock_all()", inP, Session},
		{"SELECT set_config('app.tenant', $1, false), pg_catalog.set_config('b', $2, true) AS b", inP, Session},
		{"SELECT pg_advisory_lock(hashtext($1))", inP, Session},
		{"SELECT pg_advisory_xact_lock(hashtextextended('user:' || $1::text, 0)::bigint) AS locked;", inP, Session},
		{"SELECT pg_advisory_lock(('x' || substr(md5($1), 1, 16))::bit(64)::bigint)", inP, Session},
		{"SELECT pg_advisory_lock(CAST($1 AS bigint)), pg_advisory_unlock(key => 3)", inP, Session},
		{"SELECT CASE WHEN (pg_try_advisory_lock(1)) THEN 1 ELSE 0 END", inP, Session},
		{"SELECT setseed(0.5)", inP, Session},
		{"SELECT GET_LOCK('a', 1)", inM, Session},
		{"SELECT release_lock ('a'), IS_FREE_LOCK(?)", inM, Session},
		{"SELECT COALESCE(GET_LOCK(CONCAT('u', ?), 10), 0) = 1", inM, Session},
		{"SELECT GET_LOCK('a', 1) FROM DUAL", inM, Session},
		{"DO RELEASE_ALL_LOCKS()", inM, Session},
		{"SELECT service_get_write_locks('n', 'l', 10)", inM, Session},
	} {
		for _, d := range engines {
			if got := Classify(d, row.query); row.in&(1<<d) != 0 && got.Kind != row.kind {
				t.Errorf("%v: %q is a %v, want %v", d, row.query, got.Kind, row.kind)
			}
		}
	}
	for _, query := range []string{ // a write where the function is one
		"SELECT pg_advisory_lock(id), get_lock(id, 1) FROM t",
		"SELECT pg_advisory_lock(f(1)), get_lock(f(1), 1)",
		"SELECT pg_advisory_lock(1), get_lock('a', 1), nextval('s')",
		"SELECT pg_advisory_lock(1), get_lock('a', 1), pg_sleep(1), benchmark(1, 2)",
		"SELECT mine.pg_advisory_lock(1), mine.get_lock('a', 1)",
		"SELECT pg_advisory_lock((SELECT max(id) FROM t)), get_lock((SELECT 1), 1)",
		"SELECT pg_advisory_lock(1), get_lock('a', 1) INTO t2",
		"SELECT pg_advisory_lock(1), get_lock('a', 1) UNION ALL TABLE t",
		"SELECT pg_advisory_lock(1), get_lock('a', 1) FROM dual, t",
		"SELECT pg_advisory_lock(1), get_lock('a', 1), {fn f()}",
		"WITH a AS (SELECT pg_advisory_lock(1), get_lock('a', 1)) SELECT 1",
		"VALUES (pg_advisory_lock(1), get_lock('a', 1))",
	} {
		for _, d := range []Dialect{PostgreSQL, MySQL, Generic} {
			if got := Classify(d, query); got.Kind != Write {
				t.Errorf("%v: %q is a %v, want write", d, query, got.Kind)
			}
		}
	}
}

func TestMoreThanTheSession(t *testing.T) {
	for _, query := range []string{
		"SET autocommit = 0", "SET @@autocommit = 0", "SET SESSION autocommit = 1", "SET @@session.`autocommit` = 1",
		"SET a = 1, autocommit = 0", "SET completion_type = 'CHAIN'", "SET IMPLICIT_TRANSACTIONS ON",
		"SET GLOBAL a = 1", "SET a = 1, global b = 2", "SET @@GLOBAL.a = 1", "SET @@`global`.a = 1", "SET PERSIST a = 1",
		"SET @@persist_only.a = 1", "SET PERSIST_ONLY a = 1",
		"SET PASSWORD = 'x'", "SET PASSWORD FOR u = 'x'", "SET DEFAULT ROLE ALL TO u", "SET RESOURCE GROUP g FOR 1",
		"SET STATEMENT max_statement_time = 1 FOR DELETE FROM t", "SET CLUSTER SETTING a = 1",
		"SET a = (SELECT f())", "SET @a = f()", "SET @a = db.concat('x')", "SET @a = \"concat\"('x')", "SET @a = NEXT VALUE FOR s",
		"SET @a = s.nextval", "SET @a = (TABLE t)", "SET @a = {fn f()}",
		"SET TRANSACTION READ WRITE", "SET transaction_read_only = off", "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
		"SET CONSTRAINTS ALL IMMEDIATE", "SET", "SET a = 1; DELETE FROM t", "SET a = 1; SELECT 1",
		"PREPARE p AS SELECT 1; EXECUTE p", "NOTIFY c", "RESET QUERY CACHE; FLUSH TABLES", "LOCK TABLES t WRITE",
	} {
		for _, d := range []Dialect{PostgreSQL, MySQL, Generic} {
			if got := Classify(d, query); got.Kind != Write {
				t.Errorf("%v: %q is a %v, want write", d, query, got.Kind)
			}
		}
	}
	checkKinds(t, []kindRow{
		{"RESET MASTER", inP, Session}, // a setting, there
		{"RESET QUERY CACHE", inP, Session},
		{"RESET PERSIST", 0, Session},
		{query: "DO SLEEP(1)"},
		{query: "DO GET_LOCK('a', 1), f()"},
	})
}

func TestConnectionPragmas(t *testing.T) {
	checkKinds(t, []kindRow{
		{"PRAGMA foreign_keys=ON", inS, Session},
		{"PRAGMA main.cache_size = -2000", inS, Session},
		{"PRAGMA busy_timeout(5000)", inS, Session},
		{"PRAGMA 'temp_store' = 2", inS, Session},
		{"PRAGMA synchronous = NORMAL; PRAGMA case_sensitive_like = 1", inS, Session},
		{"PRAGMA query_only = 1;", inS, Session},
		{"PRAGMA query_only('on')", inS, Session},
		{query: "PRAGMA query_only = 0"},
		{query: "PRAGMA query_only = OFF -- ON"},
		{query: "PRAGMA locking_mode = EXCLUSIVE"},
		{query: "PRAGMA writable_schema = 1"},
		{query: "PRAGMA foreign_keys = 1; PRAGMA user_version = 2"},
		{query: "EXPLAIN PRAGMA foreign_keys = 1"},
	})
}

func TestPragmaTables(t *testing.T) {
	checkKinds(t, []kindRow{
		{"SELECT * FROM pragma_foreign_keys", in3, Read},
		{"SELECT * FROM main.\"pragma_Index_Info\"('i')", in3, Read},
		{"PRAGMA pragma_list", inS, Read},
		{"SELECT * FROM pragma_optimize", inP | inM, Read},
		{"SELECT * FROM t, \"PRAGMA_optimize\"", inP | inM, Read},
		{"SELECT * FROM `pragma_optimize`", inP | inM, Read},
		{"SELECT * FROM 'pragma_optimize'", inP | inM, Read},
		{"SELECT * FROM temp . [pragma_optimize]", inP | inM, Read},
		{"SELECT (SELECT count(*) FROM main.pragma_optimize(1)) FROM t", inP | inM, Read},
		{"WITH a AS (SELECT * FROM pragma_wal_checkpoint) SELECT 1", inP | inM, Read},
		{"TABLE pragma_incremental_vacuum", inP | inM, Read},
	})
}
