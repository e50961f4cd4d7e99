package sqltext

import "testing"

// Where a row of a table holds: in one dialect, or in several.
const (
	inS = 1 << SQLite
	inP = 1 << PostgreSQL
	inM = 1 << MySQL
	in3 = inS | inP | inM
)

var engines = []Dialect{SQLite, PostgreSQL, MySQL}

// kindRow promises a kind for the dialects in its set, and Write for the others. What an engine refuses as a syntax error
// may be anything, and is listed as it comes.
type kindRow struct {
	query string
	in    int
	kind  Kind
}

func checkKinds(t *testing.T, rows []kindRow) {
	t.Helper()
	for _, row := range rows {
		for _, d := range engines {
			want := Write
			if row.in&(1<<d) != 0 {
				want = row.kind
			}
			if got := Classify(d, row.query); got.Kind != want {
				t.Errorf("%v: %q is a %v, want %v (%+v)", d, row.query, got.Kind, want, got)
			}
		}
	}
}

func TestKnownFormsRead(t *testing.T) {
	checkKinds(t, []kindRow{
		{"SELECT 1", in3, Read},
		{"select * from t where a = ? and b in (1, 2, 3)", in3, Read},
		{"\r\n\t SeLeCt 1 ;\n", in3, Read},
		{"SELECT 1; -- done", in3, Read},
		{"SELECT 1;;/* done */;", in3, Read},
		{";SELECT 1", in3, Read},
		{"SELECT $1, $2", in3, Read},
		{"SELECT @a, :into, @update", inS, Read}, // PostgreSQL has no such parameters; MySQL has no :into
		{"SELECT @into, @@session.update", inM | inS, Read},
		{"SELECT a.update, b.delete, c AS insert FROM t", in3, Read},
		{"SELECT replace(a, 'x', 'y'), upper(replace(b, 'x', 'y')), INSERT(c, 1, 2, 'x'), TRUNCATE(d, 2) FROM t", in3, Read},
		{"SELECT 'DELETE FROM t; INSERT INTO t', \"INTO\" FROM t", in3, Read},
		{"SELECT `INTO` FROM t", inS | inM, Read},
		{"SELECT [INTO], [a;b] FROM t", inS, Read},
		{"SELECT a[1:2], b::text FROM t", in3, Read},
		{"SELECT x'00ff', b'01', 0x1f, 1e5, 1.5e-3, .5, 1., 1_000", in3, Read},
		{"SELECT nextval FROM t", in3, Read},
		{"SELECT 'nextval(', get_lock FROM t", in3, Read},
		{"SELECT pg_sleep(1), sleep(1), txid_current_if_assigned(), lo_get(1)", in3, Read},
		{"SELECT currval('s'), lastval(), LAST_INSERT_ID(), LAST_INSERT_ID ( /* */ )", in3, Read},
		{"SELECT SQL_NO_CACHE a FROM t IGNORE INDEX (i) USE INDEX (j) LIMIT 1", in3, Read},
		{"SELECT /*+ MAX_EXECUTION_TIME(1000) */ 1", in3, Read},
		{"SELECT f(a := 1)", inS | inP, Read},
		{"SELECT count(*) FILTER (WHERE a) OVER w FROM t WINDOW w AS (PARTITION BY b)", in3, Read},
		{"SELECT * FROM f() AS (a int, b text)", in3, Read},
		{"SELECT CASE WHEN a THEN 1 END FROM t", in3, Read},
		{"SELECT CAST(a AS CHAR) COLLATE x FROM t", in3, Read},
		{"SELECT lock, share, begin FROM t WHERE lock IN (1)", in3, Read},
		{"SELECT 1 UNION ALL SELECT 2 EXCEPT SELECT 3", in3, Read},
		{"(SELECT 1) UNION (SELECT 2)", in3, Read},
		{"((SELECT 1))", in3, Read},
		{"VALUES (1), (2)", in3, Read},
		{"TABLE t", inP | inM, Read},
		{"SHOW TABLES", inP | inM, Read},
		{"SHOW CREATE TABLE t", inP | inM, Read},
		{"SHOW GRANTS", inP | inM, Read},
		{"SELECT * FROM pragma_table_info('t')", in3, Read},
	})
}

func TestEverythingElseWrites(t *testing.T) {
	for _, query := range []string{
		"INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (1) RETURNING id", "UPDATE t SET a = 1", "DELETE FROM t",
		"REPLACE INTO t VALUES (1)", "MERGE INTO t USING u ON a = b WHEN MATCHED THEN DELETE", "UPSERT INTO t VALUES (1)",
		"(DELETE FROM t)", "(COMMIT)", "(SHOW TABLES)",
		"CREATE TABLE t (a int)", "CREATE TABLE t AS SELECT 1", "CREATE VIEW v AS SELECT 1", "DROP TABLE t",
		"ALTER TABLE t ADD b int", "TRUNCATE t", "GRANT SELECT ON t TO u", "REVOKE SELECT ON t FROM u",
		"CALL p()", "DO $$ BEGIN END $$", "DO SLEEP(1)", "EXEC p", "EXECUTE p", "COPY t FROM STDIN",
		"COPY (DELETE FROM t RETURNING a) TO STDOUT", "COPY a a() TO STDOUT", "COPY a. TO STDOUT", "LOAD DATA INFILE 'x' INTO TABLE t",
		"LOCK TABLES t READ", "LOCK TABLE t", "UNLOCK TABLES", "NOTIFY c", "DECLARE c CURSOR FOR DELETE FROM t",
		"REFRESH MATERIALIZED VIEW v", "VACUUM", "ANALYZE", "ANALYZE t", "ANALYZE TABLE t", "ANALYZE LOCAL TABLE t", "REINDEX",
		"CLUSTER t", "CHECKPOINT", "ATTACH 'x' AS y", "DETACH y", "KILL 1", "FLUSH TABLES", "OPTIMIZE TABLE t",
		"XA START 'x'", "XA COMMIT 'x'", "BEGIN NOT ATOMIC DELETE FROM t; END", "BEGIN DELETE FROM t; END",
		"COMMIT PREPARED 'x'", "ROLLBACK PREPARED 'x'", "START SLAVE", "START REPLICA",
		"frobnicate", "1", "'SELECT 1'", "\"SELECT\" 1", "SELECTED 1", "SELECT1", "?", ")", "(", ".SELECT 1", "-SELECT 1",
		"SELECT 1; SELECT 2", "SELECT 1; DELETE FROM t", "SELECT 1;;\n--c\nDELETE FROM t", "; ;DELETE FROM t",
		"EXPLAIN FORMAT; DELETE FROM t", "EXPLAIN ; DELETE FROM t", "WITH a AS (SELECT 1) SEARCH ; DELETE FROM t",
	} {
		for _, d := range append(engines, Generic) {
			if got := Classify(d, query); got.Kind != Write {
				t.Errorf("%v: %q is a %v, want write", d, query, got.Kind)
			}
		}
	}
}

func TestSelectThatWrites(t *testing.T) {
	checkKinds(t, []kindRow{
		{query: "SELECT * INTO t2 FROM t"},
		{query: "SELECT 1INTO t2"},
		{query: "SELECT t.*INTO t2 FROM t"},
		{query: "SELECT 1 AS as INTO t2"},
		{query: "SELECT t.as INTO t2 FROM t"},
		{query: "SELECT a INTO OUTFILE '/tmp/x' FROM t"},
		{query: "SELECT a INTO DUMPFILE '/tmp/x' FROM t"},
		{query: "SELECT a INTO @x FROM t"},
		{query: "SELECT * FROM t FOR UPDATE"},
		{query: "SELECT * FROM t FOR\nupdate SKIP LOCKED"},
		{query: "SELECT * FROM t FOR NO KEY UPDATE"},
		{query: "SELECT * FROM t FOR SHARE NOWAIT"},
		{query: "SELECT * FROM t FOR KEY SHARE"},
		{query: "SELECT * FROM t LOCK IN SHARE MODE"},
		{query: "SELECT * FROM t LOCK /**/ IN -- \n SHARE MODE"},
		{query: "SELECT * FROM (SELECT * FROM t FOR UPDATE) AS s"},
		{query: "TABLE t FOR UPDATE"},
		{query: "TABLE t INTO OUTFILE 'x'"},
		{"SELECT @a := 1", inS | inP, Read},
		{"SELECT @a :=@a+1 FROM t", inS | inP, Read},
		{"SELECT NEXT VALUE FOR s", inS | inP, Read},
		{"SELECT s.nextval FROM dual", inS | inP, Read},
		{"SELECT s.`nextval` FROM dual", inS | inP, Read},
	})
}

func TestCommonTableExpressions(t *testing.T) {
	checkKinds(t, []kindRow{
		{"WITH a AS (SELECT 1) SELECT * FROM a", in3, Read},
		{"WITH a AS (SELECT 1), b (x, y) AS (VALUES (1, 2)) SELECT * FROM a, b", in3, Read},
		{"WITH RECURSIVE a(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM a WHERE n < 9) SELECT n FROM a", in3, Read},
		{"WITH a AS MATERIALIZED (SELECT 1), b AS NOT MATERIALIZED (SELECT 2) SELECT 1", in3, Read},
		{"WITH a AS (SELECT 1) (SELECT 2)", in3, Read},
		{"(WITH a AS (SELECT 1) SELECT * FROM a)", in3, Read},
		{"WITH a AS (WITH b AS (SELECT 1) SELECT * FROM b) SELECT * FROM a", in3, Read},
		{"WITH values AS (SELECT 1), \"select\" AS (SELECT 2) SELECT 1", in3, Read},
		{"WITH RECURSIVE a AS (SELECT 1) SEARCH DEPTH FIRST BY x, y SET o CYCLE x SET c USING p SELECT 1", in3, Read},
		{"WITH RECURSIVE a AS (SELECT 1) SEARCH BREADTH FIRST BY x SET o, b AS (SELECT 2) SELECT 1", in3, Read},
		{"WITH a AS (SELECT 1) TABLE a", inP | inM, Read},
		{"WITH a AS (SELECT 1) VALUES (1)", in3, Read},

		{query: "WITH a AS (DELETE FROM t RETURNING *) SELECT * FROM a"},
		{query: "WITH a AS (SELECT 1), b AS MATERIALIZED (UPDATE t SET x = 1 RETURNING *) SELECT * FROM b"},
		{query: "WITH a AS (INSERT INTO t VALUES (1)) SELECT 1"},
		{query: "WITH a AS (MERGE INTO t USING u ON true WHEN MATCHED THEN DO NOTHING RETURNING *) SELECT 1"},
		{query: "WITH a AS (WITH b AS (SELECT 1) DELETE FROM t RETURNING *) SELECT * FROM a"},
		{query: "WITH a AS (TRUNCATE t) SELECT 1"},
		{query: "WITH a AS (WITH b AS (SELECT 1) TRUNCATE t) SELECT 1"},
		{query: "WITH a AS (WITH b AS (SELECT 1) INSERT t VALUES (1)) SELECT 1"},
		{query: "WITH a AS (WITH b AS (SELECT 1) REPLACE t VALUES (1)) SELECT 1"},
		{query: "WITH a AS (CALL p()) SELECT 1"},
		{query: "WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a"},
		{query: "WITH a AS (SELECT 1) UPDATE t SET x = 1"},
		{query: "WITH a AS (SELECT 1) DELETE FROM t"},
		{query: "WITH a AS (SELECT 1) REPLACE INTO t SELECT 1"},
		{query: "WITH a AS (SELECT 1) MERGE INTO t USING a ON true WHEN MATCHED THEN DELETE"},
		{query: "WITH a AS (SELECT 1) CREATE TABLE t AS SELECT 1"},
		{query: "WITH a AS (SELECT 1) (DELETE FROM t)"},
		{query: "WITH a AS (SELECT nextval('s'), get_lock('s', 1), load_extension('s')) SELECT 1"},
		{query: "WITH RECURSIVE a AS (SELECT 1) SEARCH DEPTH FIRST BY x SET o DELETE FROM t"},
		{query: "WITH a AS (SELECT 1"},
		{query: "WITH a (b"},
		{query: "WITH a AS SELECT 1"},
		{query: "WITH a AS WHATEVER (SELECT 1) SELECT 1"},
		{query: "WITH a (SELECT 1) SELECT 1"},
		{query: "WITH"},
	})
}

func TestWritingFunctions(t *testing.T) {
	checkKinds(t, []kindRow{
		{"SELECT nextval('s')", inS, Read},
		{"SELECT pg_catalog.NextVal ('s')", inS, Read},
		{"SELECT \"nextval\"('s')", inS, Read},
		{"SELECT \"pg_catalog\" . \"nextval\" /* c */ -- d\n ('s')", inS, Read},
		{"SELECT * FROM t WHERE a = (SELECT setval('s', 1))", inS, Read},
		{"VALUES (setval('s', 1))", inS, Read},
		{"SELECT pg_advisory_lock(id) FROM t", inS | inM, Read},
		{"SELECT pg_notify('c', 'x'), set_config('a', 'b', false)", inS | inM, Read},
		{"SELECT lo_create(0), lowrite(1, 'x')", inS | inM, Read},
		{"SELECT txid_current()", inS | inM, Read},
		{"SELECT pg_current_xact_id()", inS | inM, Read},
		{"SELECT pg_terminate_backend(1)", inS | inM, Read},
		{"SELECT * FROM dblink('x', 'DELETE FROM t')", inS | inM, Read},
		{"SELECT dblink_exec('DELETE FROM t')", inS | inM, Read},
		{"SELECT query_to_xml('SELECT nextval(''s'')', true, true, '')", inS | inM, Read},
		{"SELECT pg_stat_reset_shared('bgwriter')", inS | inM, Read},
		{"SELECT pg_create_physical_replication_slot('x')", inS | inM, Read},
		{"SELECT * FROM pg_logical_slot_get_changes('x', NULL, NULL)", inS | inM, Read},
		{"SHOW TABLES WHERE GET_LOCK('a', 1)", inP, Read},
		{"SELECT GET_LOCK('a', f())", inS | inP, Read},
		{"SELECT `RELEASE_ALL_LOCKS`()", inS | inP, Read},
		{"SELECT LAST_INSERT_ID(5)", inS | inP, Read},
		{"SELECT LAST_INSERT_ID(id + 1) FROM t", inS | inP, Read},
		{"SELECT db.NEXTVAL(s)", inS, Read},
		{"SELECT load_extension('x')", inP | inM, Read},
		{"SELECT [writefile]('x', 'y')", inP | inM, Read},
		{"SELECT sqlcipher_export('x')", inP | inM, Read},
	})
}

func TestExplain(t *testing.T) {
	checkKinds(t, []kindRow{
		{"EXPLAIN SELECT 1", in3, Read},
		{"EXPLAIN DELETE FROM t", in3, Read},
		{"EXPLAIN INSERT INTO t SELECT 1", in3, Read},
		{"EXPLAIN WITH a AS (DELETE FROM t RETURNING *) SELECT * FROM a", in3, Read},
		{"EXPLAIN QUERY PLAN DELETE FROM t", in3, Read},
		{"EXPLAIN VERBOSE UPDATE t SET a = 1", in3, Read},
		{"EXPLAIN (COSTS OFF, FORMAT JSON) DELETE FROM t", in3, Read},
		{"EXPLAIN (SELECT 1)", in3, Read},
		{"EXPLAIN FORMAT=JSON DELETE FROM t", in3, Read},
		{"EXPLAIN t", inM, Read},
		{"DESCRIBE t", inM, Read},
		{"DESC `t` a", inM, Read},
		{"DESC SELECT 1", inM, Read},
		{"EXPLAIN ANALYZE SELECT 1", in3, Read},
		{"EXPLAIN ANALYZE VERBOSE SELECT 1", in3, Read},
		{"EXPLAIN ANALYSE SELECT 1", in3, Read},
		{"EXPLAIN (ANALYZE, BUFFERS) SELECT 1", in3, Read},
		{"EXPLAIN (ANALYZE, BUFFERS) (SELECT 1)", in3, Read},
		{"ANALYZE SELECT 1", inM, Read},
		{"ANALYZE FORMAT=JSON SELECT 1", inM, Read},

		{query: "EXPLAIN ANALYZE DELETE FROM t"},
		{query: "EXPLAIN ANALYSE DELETE FROM t"},
		{query: "EXPLAIN VERBOSE ANALYZE DELETE FROM t"},
		{query: "EXPLAIN ANALYZE WITH a AS (DELETE FROM t RETURNING *) SELECT * FROM a"},
		{query: "EXPLAIN ANALYZE SELECT * INTO u FROM t"},
		{query: "EXPLAIN ANALYZE EXECUTE p"},
		{query: "EXPLAIN ANALYZE FORMAT=TREE DELETE FROM t"},
		{"EXPLAIN (ANALYZE, BUFFERS) DELETE FROM t", inS | inM, Read}, // refused there
		{"EXPLAIN (BUFFERS, analyse true) DELETE FROM t", inS | inM, Read},
		{"EXPLAIN (\"analyze\") DELETE FROM t", inS | inM, Read},
		{query: "EXPLAIN PRAGMA user_version = 1"},
		{query: "EXPLAIN"},
		{query: "ANALYZE DELETE FROM t"},
		{query: "ANALYZE FORMAT=JSON UPDATE t SET a = 1"},
	})
}

func TestPragmas(t *testing.T) {
	checkKinds(t, []kindRow{
		{"PRAGMA user_version", inS, Read},
		{"pragma main.User_Version;", inS, Read},
		{"PRAGMA foreign_keys", inS, Read},
		{"PRAGMA table_info(t)", inS, Read},
		{"PRAGMA main.table_info('t')", inS, Read},
		{"PRAGMA table_xinfo = t", inS, Read},
		{"PRAGMA integrity_check", inS, Read},
		{"PRAGMA quick_check(5)", inS, Read},
		{"PRAGMA database_list", inS, Read},
		{query: "PRAGMA user_version = 1"},
		{query: "PRAGMA main.user_version(1)"},
		{query: "PRAGMA journal_mode"},
		{query: "PRAGMA journal_mode = WAL"},
		{query: "PRAGMA optimize"},
		{query: "PRAGMA wal_checkpoint"},
		{query: "PRAGMA incremental_vacuum"},
		{query: "PRAGMA frobnicate"},
		{query: "PRAGMA"},
		{query: "PRAGMA ."},
	})
}

func TestTransactionControl(t *testing.T) {
	checkKinds(t, []kindRow{
		{"BEGIN", in3, Begin},
		{"begin;", in3, Begin},
		{"/* c */ BEGIN WORK -- c", in3, Begin},
		{"BEGIN TRANSACTION", in3, Begin},
		{"BEGIN DEFERRED", in3, Begin},
		{"BEGIN IMMEDIATE TRANSACTION", in3, Begin},
		{"BEGIN EXCLUSIVE", in3, Begin},
		{"BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY", in3, Begin},
		{"BEGIN NOT DEFERRABLE", in3, Begin},
		{"START TRANSACTION", in3, Begin},
		{"START TRANSACTION WITH CONSISTENT SNAPSHOT", in3, Begin},
		{"COMMIT", in3, Commit},
		{"COMMIT WORK AND NO CHAIN", in3, Commit},
		{"COMMIT AND CHAIN", in3, Commit},
		{"END", in3, Commit},
		{"END TRANSACTION", in3, Commit},
		{"ROLLBACK", in3, Rollback},
		{"ROLLBACK TRANSACTION", in3, Rollback},
		{"ABORT", in3, Rollback},
		{"ROLLBACK AND CHAIN", in3, Rollback},
		{"ROLLBACK TO x", in3, RollbackTo},
		{"ROLLBACK TO SAVEPOINT \"x\"", in3, RollbackTo},
		{"ROLLBACK WORK TO x", in3, RollbackTo},
		{"SAVEPOINT x", in3, Savepoint},
		{"RELEASE x", in3, Release},
		{"RELEASE SAVEPOINT x", in3, Release},
		{"PREPARE TRANSACTION 'x'", inP, Commit},
		{"PREPARE transaction FROM 'SELECT 1'", in3, Session},
		{"PREPARE transaction AS SELECT 1", in3, Session},
	})
}

// statementRow promises a whole Statement.
type statementRow struct {
	dialect Dialect
	query   string
	want    Statement
}

func TestStatementDetails(t *testing.T) {
	for _, row := range []statementRow{
		{SQLite, "", Statement{Kind: Empty}},
		{MySQL, " ; /* c */ # d", Statement{Kind: Empty}},
		{PostgreSQL, "-- c\n;", Statement{Kind: Empty}},
		{Generic, " ; -- c", Statement{Kind: Empty}},

		{SQLite, "select 1", Statement{Kind: Read, Verb: "SELECT"}},
		{Generic, "(select 1)", Statement{Kind: Read, Verb: "SELECT"}},
		{SQLite, "with a as (select 1) update t set b = 1", Statement{Verb: "UPDATE", Combines: true}},
		{SQLite, "explain delete from t", Statement{Kind: Read, Verb: "EXPLAIN"}},
		{SQLite, "frobnicate", Statement{}},

		{PostgreSQL, "BEGIN READ ONLY", Statement{Kind: Begin, Verb: "BEGIN", ReadOnly: true}},
		{PostgreSQL, "BEGIN READ ONLY, READ WRITE", Statement{Kind: Begin, Verb: "BEGIN"}},
		{MySQL, "START TRANSACTION READ ONLY", Statement{Kind: Begin, Verb: "START", ReadOnly: true}},
		{SQLite, "begin exclusive transaction", Statement{Kind: Begin, Verb: "BEGIN", Immediate: true}},
		{SQLite, "BEGIN DEFERRED", Statement{Kind: Begin, Verb: "BEGIN"}},
		{Generic, "BEGIN IMMEDIATE", Statement{Kind: Begin, Verb: "BEGIN", Immediate: true}},
		{MySQL, "COMMIT AND CHAIN", Statement{Kind: Commit, Verb: "COMMIT", Chain: true}},
		{MySQL, "ROLLBACK AND NO CHAIN", Statement{Kind: Rollback, Verb: "ROLLBACK"}},
		{PostgreSQL, "ABORT AND CHAIN", Statement{Kind: Rollback, Verb: "ABORT", Chain: true}},
		{MySQL, "ROLLBACK TO chain", Statement{Kind: RollbackTo, Verb: "ROLLBACK"}},

		{SQLite, "CREATE TABLE t (a)", Statement{Verb: "CREATE", DDL: true}},
		{MySQL, "CREATE TABLE t (a int)", Statement{Verb: "CREATE", DDL: true, MayEnd: true}},
		{MySQL, "CREATE TEMPORARY TABLE t (a int)", Statement{Verb: "CREATE", DDL: true}},
		{MySQL, "TRUNCATE t", Statement{Verb: "TRUNCATE", DDL: true, MayEnd: true}},
		{MySQL, "GRANT ALL ON x TO y", Statement{Verb: "GRANT", MayEnd: true}},
		{MySQL, "INSERT INTO t VALUES (1)", Statement{Verb: "INSERT"}},
		{MySQL, "CALL p()", Statement{Verb: "CALL", MayBegin: true, MayEnd: true}},
		{PostgreSQL, "CALL p()", Statement{Verb: "CALL"}},
		{MySQL, "frobnicate", Statement{MayBegin: true, MayEnd: true}},
		{MySQL, "XA END 'x'", Statement{Verb: "XA", MayBegin: true, MayEnd: true}},
		{MySQL, "SET NAMES utf8mb4", Statement{Kind: Session, Verb: "SET"}},
		{MySQL, "SET @@autocommit=0", Statement{Verb: "SET", MayBegin: true, MayEnd: true}},
		{MySQL, "SET a = 1, @@AutoCommit=0", Statement{Verb: "SET", MayBegin: true, MayEnd: true}},
		{MySQL, "SET @autocommit=0", Statement{Kind: Session, Verb: "SET"}},
		{MySQL, "SET autocommit=0", Statement{Verb: "SET", MayBegin: true, MayEnd: true}},
		{MySQL, "SET @x = 1, @@session.`autocommit` = 1", Statement{Verb: "SET", MayBegin: true, MayEnd: true}},
		{MySQL, "BEGIN NOT ATOMIC COMMIT", Statement{Verb: "BEGIN", MayBegin: true, MayEnd: true}},

		{SQLite, "SELECT 1; SELECT 2", Statement{Verb: "SELECT", Multi: true}},
		{SQLite, ";DELETE FROM t", Statement{Verb: "DELETE", Combines: true}},
		{SQLite, "BEGIN; DELETE FROM t", Statement{Verb: "BEGIN", Multi: true, MayBegin: true}},
		{SQLite, "DELETE FROM t; COMMIT", Statement{Verb: "DELETE", Multi: true, MayEnd: true}},
		{SQLite, "SELECT 1; DROP TABLE t; SELECT 2", Statement{Verb: "SELECT", Multi: true, DDL: true}},
		{MySQL, "SELECT 1; COMMIT AND CHAIN", Statement{Verb: "SELECT", Multi: true, MayBegin: true, MayEnd: true}},

		{Generic, "BEGIN", Statement{Kind: Begin, Verb: "BEGIN"}},
		{Generic, "SHOW TABLES", Statement{Verb: "SHOW"}},
		{Generic, "CALL p()", Statement{Verb: "CALL", MayBegin: true, MayEnd: true}},
		{Generic, "PREPARE TRANSACTION 'x'", Statement{Verb: "PREPARE", MayEnd: true}},
		{Generic, "# SELECT 1", Statement{}},

		{MySQL, "/*!40000 COMMIT */", unclear("")},
		{MySQL, "INSERT INTO t VALUES ('it\\'s')", Statement{Verb: "INSERT"}},
		{MySQL, "INSERT INTO t VALUES ('\\'; COMMIT; -- ')", Statement{Verb: "INSERT", Multi: true, MayEnd: true}},
		{PostgreSQL, "INSERT INTO t VALUES ('it\\'s')", unclear("INSERT")},
		{PostgreSQL, "SELECT 1; SELECT 'a' LIKE 'b' ESCAPE '\\'", unclear("SELECT")},
		{PostgreSQL, "SET a = 1; SET LOCAL b = 2;", Statement{Kind: Session, Verb: "SET", Multi: true}},
		{PostgreSQL, "SET a = 1; SELECT 1", Statement{Verb: "SET", Multi: true}},
		{PostgreSQL, "SELECT 1; SELECT pg_advisory_lock(1)", Statement{Verb: "SELECT", Multi: true}},
		{SQLite, "SELECT 'a", unclear("SELECT")},
		{SQLite, "SELECT 'a\x00'", unclear("")},
		{MySQL, "SELECT '\xbf\\\\'", unclear("")},
	} {
		got := Classify(row.dialect, row.query)
		got.Settles, got.Alters = row.want.Settles, row.want.Alters
		if got != row.want {
			t.Errorf("%v: %q\n got %+v\nwant %+v", row.dialect, row.query, got, row.want)
		}
	}
}

func TestZeroValuesAreSafe(t *testing.T) {
	if s := (Statement{}); s.Kind != Write {
		t.Errorf("the zero Statement is a %v, want write", s.Kind)
	}
	var d Dialect
	if got := Classify(d, "SHOW TABLES"); d != Generic || got.Kind != Write {
		t.Errorf("the zero Dialect is %v and takes SHOW for a %v, want generic and write", d, got.Kind)
	}
}

func TestEveryConstantHasAName(t *testing.T) {
	names := map[string]bool{}
	for d := range MySQL + 1 {
		names[d.String()] = true
	}
	for k := range Empty + 1 {
		names[k.String()] = true
	}
	if want := int(MySQL+1) + int(Empty+1); len(names) != want {
		t.Errorf("%d different names for %d constants", len(names), want)
	}
	for _, beyond := range []string{(MySQL + 1).String(), (Empty + 1).String()} {
		if names[beyond] {
			t.Errorf("an undefined constant is called %q", beyond)
		}
	}
}

func TestClassifyDoesNotAllocate(t *testing.T) {
	for _, d := range append(engines, Generic) {
		n := testing.AllocsPerRun(100, func() {
			Classify(d, "WITH a AS (SELECT 'x', $$y$$ FROM t) SELECT replace(a, 'b', 'c') FROM a -- c")
		})
		if n != 0 {
			t.Errorf("%v: %v allocations, want none", d, n)
		}
	}
}
