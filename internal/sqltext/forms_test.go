package sqltext

import "testing"

// A permission table: in PostgreSQL such names need no quotes.
func TestColumnsCalledLikeVerbs(t *testing.T) {
	checkKinds(t, []kindRow{
		{"SELECT id, read, update, delete FROM permissions", in3, Read},
		{"SELECT update FROM p WHERE delete AND NOT insert OR drop = truncate ORDER BY update, delete", in3, Read},
		{"SELECT DISTINCT update, coalesce(delete, false), bool_or(alter) FROM p GROUP BY merge HAVING share", in3, Read},
		{"SELECT CASE WHEN update THEN delete ELSE insert END, 1 + update, a||delete FROM p", in3, Read},
		{"WITH a (update, delete) AS (SELECT update, delete FROM p) SELECT count(DISTINCT update) FROM a", in3, Read},

		{query: "SELECT update, delete FROM p FOR UPDATE"},
		{query: "SELECT update FROM p FOR NO KEY UPDATE"},
		{query: "WITH a AS (UPDATE p SET a = 1 RETURNING delete) SELECT delete FROM a"},
		{query: "WITH a AS MATERIALIZED (DELETE FROM p RETURNING 1) SELECT 1"},
		{query: "WITH a AS (WITH b AS (SELECT 1) UPDATE p SET a = 1 RETURNING 1) SELECT 1"},
		{query: "WITH a AS (WITH RECURSIVE b AS (SELECT 1) SEARCH DEPTH FIRST BY x SET o DELETE FROM p RETURNING 1) SELECT 1"},
		{query: "WITH a AS (WITH b AS (SELECT 1) MERGE INTO p USING b ON true WHEN MATCHED THEN DELETE) SELECT 1"},
		{query: "SELECT * FROM [DELETE FROM p RETURNING 1]", in: inS, kind: Read}, // of CockroachDB; a name to SQLite
		{query: "SELECT * FROM FINAL TABLE (INSERT INTO p VALUES (1))"},
		{query: "(DELETE FROM p)"},
	})
}

func TestFormsOfOneEngine(t *testing.T) {
	checkKinds(t, []kindRow{
		{"COPY t TO STDOUT", inP, Read},
		{"COPY s.t (a, update) TO STDOUT WITH (FORMAT csv, HEADER)", inP, Read},
		{"COPY (SELECT delete, update FROM t) TO STDOUT", inP, Read},
		{"COPY (WITH a AS (SELECT 1) SELECT * FROM a) TO stdout CSV", inP, Read},
		{query: "COPY TO STDOUT"},
		{query: "COPY t TO '/tmp/x'"},
		{query: "COPY t TO PROGRAM 'cat'"},
		{query: "COPY t (a) FROM STDIN"},
		{query: "COPY (DELETE FROM t RETURNING a) TO STDOUT"},
		{query: "COPY ((DELETE FROM t RETURNING a)) TO STDOUT"},
		{query: "COPY (WITH a AS (DELETE FROM t RETURNING a) SELECT * FROM a) TO STDOUT"},
		{query: "COPY (SELECT nextval('s')) TO STDOUT", in: 0},
		{query: "COPY (SELECT 1) TO STDOUT; DELETE FROM t"},

		{"DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT * FROM t", inP, Read},
		{"FETCH FORWARD 10 FROM c", inP, Read},
		{"MOVE c", inP, Read},
		{query: "DECLARE c CURSOR FOR SELECT * FROM t FOR UPDATE"},
		{query: "DECLARE c CURSOR FOR SELECT nextval('s')"},
		{query: "DECLARE c CURSOR FOR EXECUTE p"},
		{query: "DECLARE c CURSOR"},

		{"HELP 'contents'", inM, Read},
		{"CHECKSUM TABLE t EXTENDED", inM, Read},
		{"HANDLER t READ i >= (1) LIMIT 5", inM, Read},
		{"HANDLER `read` READ NEXT WHERE a = 1", inM, Read},
		{query: "HANDLER t READ FIRST WHERE a = GET_LOCK('a', 1)"},
	})
}

func TestFunctionsOfExtensions(t *testing.T) {
	for _, query := range []string{
		"SELECT graphile_worker.add_job('x')", "SELECT * FROM pgmq.read('q', 30, 1)", "SELECT pgmq.send('q', '{}')",
		"SELECT msg_id FROM \"pgmq\" . \"pop\" ('q')", "SELECT net.http_post('http://x')", "SELECT cron.schedule('a', 'b', 'c')",
		"SELECT cron.unschedule(1)", "SELECT create_distributed_table('t', 'a')", "SELECT run_command_on_workers('DELETE FROM t')",
		"SELECT add_retention_policy('t', INTERVAL '1 day')", "SELECT compress_chunk(c) FROM show_chunks('t') c",
		"SELECT pgboss.create_queue('q', '{}')", "SELECT partman.create_parent('t')", "SELECT vault.create_secret('x')",
		"SELECT * FROM crosstab('SELECT 1') AS a (b int)", "SELECT * FROM crosstab3('SELECT 1')",
		"SELECT * FROM connectby('t', 'a', 'b', 'c', 0) AS x (y int)", "SELECT * FROM xpath_table('a', 'b', 't', 'c', 'd') AS x (y int)",
		"SELECT heap_force_kill('t', ARRAY['(0,1)']::tid[])", "SELECT * FROM ag_catalog.cypher('g', $$ CREATE (n) $$) AS (a agtype)",
		"SELECT * FROM pgr_dijkstra('SELECT 1', 1, 2)", "SELECT * FROM aws_s3.query_export_to_s3('a', 'b')",
		"SELECT topology.CreateTopology('t', 1)", "SELECT graphql.resolve('mutation')",
	} {
		if got := Classify(PostgreSQL, query); got.Kind != Write {
			t.Errorf("%q is a %v, want write", query, got.Kind)
		}
	}
	for _, query := range []string{ // names that anybody's functions and columns may have
		"SELECT read(1), send(2), pop(3), net, cron FROM t", "SELECT pgmq.msg_id, vault.name FROM pgmq, vault",
		"SELECT a.read(1) FROM pgmq", "SELECT q.read, lower(b) FROM t q",
	} {
		if got := Classify(PostgreSQL, query); got.Kind != Read {
			t.Errorf("%q is a %v, want read", query, got.Kind)
		}
	}
	checkKinds(t, []kindRow{
		{"SELECT define('f', '1')", inP | inM, Read},
		{"SELECT crsql_as_crr('t'), cloudsync_init('t')", inP | inM, Read},
		{"SELECT mroonga_command('load')", inS | inP, Read},
		{"SELECT version_tokens_set('a=b')", inS | inP, Read},
	})
}
