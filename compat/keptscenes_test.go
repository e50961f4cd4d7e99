package compat

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// A keptStage is the scenes of an engine, and what they need. With one prepared statement for each text, at least so many
// of them are wrong.
type keptStage struct {
	setUp  []string
	scenes func() []keptScene
	wrong  int
}

var keptStages = map[string]keptStage{
	"postgres": {postgresKeptSetUp, postgresKeptScenes, 200},
	"mysql":    {mysqlKeptSetUp, mysqlKeptScenes, 20},
	"sqlite":   {sqliteKeptSetUp, sqliteKeptScenes, 0}, // which itself prepares anew what has become stale
}

// A way is a way to change a setting, and to change it back: NAME and VALUE stand for it.
type way struct {
	name   string
	script []string
}

// settings makes a scene of each way to change each setting.
func settings(ways []way, setting, value string, texts ...string) (scenes []keptScene) {
	fill := strings.NewReplacer("NAME", setting, "VALUE", value)
	for _, w := range ways {
		script := []string{use}
		for _, step := range w.script {
			script = append(script, fill.Replace(step))
		}
		scenes = append(scenes, keptScene{fmt.Sprintf("%s by %s", setting, w.name), texts, script})
	}
	return scenes
}

var postgresKeptSetUp = []string{
	"CREATE TABLE days (id int, at timestamptz)",
	"INSERT INTO days VALUES (1, '2024-01-02 00:00+00')",
	"CREATE SCHEMA s0", "CREATE SCHEMA s1",
	"CREATE TABLE t AS SELECT 'public' AS v", "CREATE TABLE s0.t AS SELECT 0 AS v", "CREATE TABLE s1.t AS SELECT 'one' AS v, 1 AS w",
	"DO $$ BEGIN EXECUTE format('CREATE SCHEMA %I; CREATE TABLE %I.t AS SELECT 1.5 AS v', 'role_' || current_database(), 'role_' || current_database()); END $$",
	"CREATE TABLE log (at timestamptz, n int)",
	"CREATE TABLE docs AS SELECT i AS id, i % 2 AS tenant, repeat('x', 10) AS v FROM generate_series(1, 100) AS i",
	"CREATE FUNCTION tenant() RETURNS int IMMUTABLE LANGUAGE sql AS $$ SELECT current_setting('app.tenant')::int $$",
	"CREATE VIEW mine AS SELECT * FROM docs WHERE tenant = tenant()",
	"CREATE FUNCTION put(name text, value text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN set_config(name, value, false); END $$",
	"CREATE FUNCTION put_local(name text, value text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN set_config(name, value, true); END $$",
	"CREATE PROCEDURE set_it(name text, value text) LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config(name, value, false); END $$",
	"CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT 4'",
	"CREATE FUNCTION run(command text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE command; RETURN 1; END $$",
	"CREATE PROCEDURE do_it(command text) LANGUAGE plpgsql AS $$ BEGIN EXECUTE command; END $$",
}

var postgresWays = []way{
	{"SET", []string{"SET NAME = 'VALUE'", use, "RESET NAME", use}},
	{"RESET ALL", []string{"SET SESSION NAME TO 'VALUE'", use, "RESET ALL", use}},
	{"SET in lower case", []string{"/* a */ set NAME = 'VALUE'", use, "reset all;", use}},
	{"SET LOCAL and COMMIT", []string{begin, "SET LOCAL NAME = 'VALUE'", use, commit, use}},
	{"SET LOCAL and ROLLBACK", []string{begin, use, "SET LOCAL NAME = 'VALUE'", use, rollback, begin, use, commit}},
	{"SET that is rolled back", []string{begin, "SET NAME = 'VALUE'", use, rollback, use}},
	{"SET and SAVEPOINT", []string{begin, "SAVEPOINT a", "SET NAME = 'VALUE'", use, "ROLLBACK TO SAVEPOINT a", use, commit, use}},
	{"SET LOCAL in SQL", []string{"BEGIN", "SET LOCAL NAME = 'VALUE'", use, "COMMIT", use}},
	{"SET LOCAL and AND CHAIN", []string{"BEGIN", "SET LOCAL NAME = 'VALUE'", use, "ROLLBACK AND CHAIN", use, "COMMIT", use}},
	{"several statements", []string{"BEGIN; SET LOCAL NAME = 'VALUE'", use, "COMMIT; SELECT 1", use}},
	{"set_config", []string{"SELECT set_config('NAME', 'VALUE', false)", use, "RESET NAME", use}},
	{"set_config in a query", []string{"WITH a AS (SELECT set_config('NAME', 'VALUE', false) AS b) SELECT a.b FROM a, days", use}},
	{"set_config for the transaction", []string{begin, "SELECT set_config('NAME', 'VALUE', true)", use, commit, use}},
	{"DO", []string{"DO $$ BEGIN PERFORM set_config('NAME', 'VALUE', false); END $$", use, "DO $$ BEGIN RESET NAME; END $$", use}},
	{"CALL", []string{"CALL public.set_it('NAME', 'VALUE')", use, "CALL public.do_it('RESET NAME')", use}},
	{"a function", []string{"SELECT public.put('NAME', 'VALUE')", use, "SELECT public.run('RESET NAME')", use}},
	{"a function for the transaction", []string{begin, "SELECT public.put_local('NAME', 'VALUE')", use, commit, use}},
	{"a function in an UPDATE", []string{"UPDATE days SET id = id WHERE public.put('NAME', 'VALUE') IS NOT NULL", use}},
	{"EXPLAIN ANALYZE", []string{"EXPLAIN ANALYZE SELECT public.put('NAME', 'VALUE')", use}},
	{"EXECUTE", []string{"PREPARE change AS SELECT set_config('NAME', 'VALUE', false)", use, "EXECUTE change", use}},
	{"a cursor", []string{begin, "DECLARE c CURSOR FOR SELECT public.put_local('NAME', 'VALUE')", use, "FETCH c", use, commit, use}},
	{"the inner driver", []string{raw + "SET NAME = 'VALUE'", use, begin, raw + "SET LOCAL NAME = DEFAULT", use, commit, use}},
}

func postgresKeptScenes() []keptScene {
	scenes := slices.Concat(
		settings(postgresWays, "TimeZone", "Asia/Kathmandu",
			"SELECT count(*) FROM public.days WHERE at >= '2024-01-02' AND id >= ?",
			"SELECT extract(hour FROM timestamptz '2024-01-02 12:00' AT TIME ZONE 'UTC'), '20240102 0405'::timestamptz = '2024-01-02 04:05+00', ?",
			"SELECT (extract(epoch FROM 'today'::timestamptz)::bigint + ?) % 86400",
			"SELECT '{2024-01-02}'::timestamptz[] = ARRAY['2024-01-02 00:00+00'::timestamptz], lower('[2024-01-02,)'::tstzrange) = '2024-01-02 00:00+00', ?",
			"SELECT '0405'::timetz = '04:05+00', '12:00'::timetz = '12:00+00', ?"),
		settings(postgresWays, "DateStyle", "ISO, DMY",
			"SELECT extract(month FROM '01/02/2024'::date), ?", "SELECT extract(day FROM date '1-2-2024'), ?"),
		settings(postgresWays, "IntervalStyle", "sql_standard",
			"SELECT extract(hour FROM '-1 2:03:04'::interval), interval '1 day' = '24:00', ?"),
		settings(postgresWays, "search_path", "s1",
			"SELECT * FROM t WHERE ? = 1", "SELECT 't'::regclass = 'public.t'::regclass, ?"),
		settings(postgresWays, "transform_null_equals", "on", "SELECT (? = NULL) IS NULL"),
		settings(postgresWays, "array_nulls", "off", "SELECT ('{NULL}'::text[])[1] IS NULL, ?"),
		settings(postgresWays[:3], "xmloption", "document", "SELECT 'a<b/>'::xml IS NULL, ?"),
		settings(postgresWays, "standard_conforming_strings", "off", `SELECT 'a\x62', ?`),
		settings(postgresWays, "row_security", "off", "SELECT v FROM docs WHERE id = ?"),
		settings(postgresWays, "default_text_search_config", "simple", "SELECT to_tsvector('the cats'), ?"),
		settings(postgresWays, "extra_float_digits", "-10", "SELECT 0.1::float8 / 3, ?"),
		settings(postgresWays, "bytea_output", "escape", "SELECT 'abc'::bytea::text, ?"),
	)
	for _, w := range postgresWays {
		scenes = append(scenes, tenants(w))
	}
	mix := mixed(slices.Concat(scenes[:4*len(postgresWays)], postgresTemporaries()), 15)
	return slices.Concat(scenes, postgresTemporaries(), postgresNames(), postgresMoments(), mix)
}

// mixed makes scenes in which one change comes after the other.
func mixed(scenes []keptScene, n int) (mix []keptScene) {
	random := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		m := keptScene{name: fmt.Sprint("mixed ", i)}
		for range 8 {
			scene := scenes[random.IntN(len(scenes))]
			if text := scene.texts[random.IntN(len(scene.texts))]; !slices.Contains(m.texts, text) {
				m.texts = append(m.texts, text)
			}
			m.script = slices.Concat(m.script, []string{use}, scene.script, []string{"DISCARD ALL"})
		}
		mix = append(mix, m)
	}
	return mix
}

// tenants is about a setting of the program's own, which a function reads that should not be declared IMMUTABLE: all goes
// well as long as the server makes no plan that lasts.
func tenants(w way) keptScene {
	const back = "SET app.tenant TO 1"
	fill := strings.NewReplacer("RESET ALL", back, "reset all", back, "RESET NAME", back, "DEFAULT", "'1'", "NAME", "app.tenant", "VALUE", "0")
	script := []string{"SET app.tenant = '1'", use, use, use}
	for _, step := range w.script {
		script = append(script, fill.Replace(step))
		if step == use {
			script = append(script, use, use)
		}
	}
	return keptScene{"app.tenant by " + w.name, []string{"SELECT min(id), count(*) FROM mine WHERE id >= ?"}, script}
}

// postgresTemporaries are tables that stand before others while the session, or the transaction, lasts. Of the first one
// the server knows.
func postgresTemporaries() (scenes []keptScene) {
	const create = "CREATE TEMP TABLE t AS SELECT 7.5 AS v"
	for _, w := range []way{
		{"CREATE", []string{create, use, "DROP TABLE pg_temp.t", use}},
		{"CREATE in a schema", []string{"CREATE TABLE pg_temp.t AS SELECT 7.5 AS v", use, "DISCARD TEMP", use}},
		{"SELECT INTO", []string{"SELECT 7.5 AS v INTO TEMP t", use, "DISCARD ALL", use}},
		{"several statements", []string{"SELECT 1; " + create, use}},
		{"DO", []string{"DO $$ BEGIN " + create + "; END $$", use}},
		{"CALL", []string{"CALL public.do_it('" + create + "')", use, "CALL public.do_it('DROP TABLE pg_temp.t')", use}},
		{"a function", []string{"SELECT public.run('" + create + "')", use, "SELECT public.run('DROP TABLE pg_temp.t')", use}},
		{"a function with arguments", []string{"SELECT * FROM days, public.run('" + create + "') AS r", use}},
		{"EXECUTE", []string{"PREPARE change AS " + strings.Replace("SELECT public.run('X')", "X", create, 1), use, "EXECUTE change", use}},
		{"the inner driver", []string{raw + create, use}},
		{"a transaction that is rolled back", []string{begin, create, use, rollback, begin, use, commit}},
		{"ON COMMIT DROP", []string{begin, "CREATE TEMP TABLE t ON COMMIT DROP AS SELECT 7.5 AS v", use, commit, begin, use, commit}},
		{"CALL in a transaction", []string{begin, "CALL public.do_it('" + create + "')", use, rollback, begin, use, commit}},
		{"SAVEPOINT", []string{begin, "SAVEPOINT a", create, use, "ROLLBACK TO a", use, commit}},
	} {
		script := append([]string{"CREATE TEMP TABLE first (a int)", use}, w.script...)
		scenes = append(scenes, keptScene{"temporary table by " + w.name, []string{"SELECT * FROM t WHERE ? = 1"}, script})
	}
	return scenes
}

// postgresNames are names that come to mean something else.
func postgresNames() []keptScene {
	t := []string{"SELECT * FROM t WHERE ? = 1"}
	path := func(script ...string) []string {
		return slices.Concat([]string{`SET search_path = s2, "$user", public`, use}, script, []string{"DROP SCHEMA IF EXISTS s2 CASCADE"})
	}
	return []keptScene{
		{"role", t, path("SET ROLE {role}", use, "RESET ROLE", use)},
		{"role in a transaction", t, path(begin, "SET LOCAL ROLE {role}", use, commit, begin, use, commit)},
		{"role that is rolled back", t, path(begin, "SET ROLE {role}", use, rollback, begin, use, commit)},
		{"session authorization", t, path("SET SESSION AUTHORIZATION {role}", use, "RESET SESSION AUTHORIZATION", use)},
		{"role by a function", t, path("SELECT public.put('role', '{role}')", use, "SELECT public.put('role', 'none')", use)},
		{"role by DO", t, path("DO $$ BEGIN SET ROLE {role}; END $$", use)},
		{"schema", t, path("SET SCHEMA 's0'", use, begin, "SET LOCAL SCHEMA 's1'", use, commit, begin, use, commit)},
		{"table before another", t, path("CREATE SCHEMA s2", use, "CREATE TABLE s2.t AS SELECT 2 AS v", use, "DROP TABLE s2.t", use)},
		{"table by SELECT INTO", t, path("CREATE SCHEMA s2", use, "SELECT 2 AS v INTO s2.t", use)},
		{"table by a function", t, path("CREATE SCHEMA s2", use, "SELECT public.run('CREATE TABLE s2.t AS SELECT 2 AS v')", use)},
		{"table that is rolled back", t, path("CREATE SCHEMA s2", begin, "CREATE TABLE s2.t AS SELECT 2 AS v", use, rollback, begin, use, commit)},
		{"table up to a savepoint", t, path("CREATE SCHEMA s2", begin, "SAVEPOINT a", "CREATE TABLE s2.t AS SELECT 2 AS v", use, "ROLLBACK TO a", use, commit)},
		{"column", t, path("ALTER TABLE t ADD COLUMN w int", use, begin, use, "ALTER TABLE t DROP COLUMN w", use, commit)},
		{"column of another program", t, path(others+"ALTER TABLE t ADD COLUMN w int", use, others+"ALTER TABLE t DROP COLUMN w", use)},
		{"function before another", []string{"SELECT abs(f(?))"}, path("CREATE SCHEMA s2", use,
			"CREATE FUNCTION s2.f(int) RETURNS int LANGUAGE sql AS 'SELECT 5'", use)},
	}
}

// postgresMoments are strings that become a moment when they are parsed.
func postgresMoments() (scenes []keptScene) {
	for _, moment := range []string{
		"'now'", "' NOW '", "'now!'", "E'n\\x6fw'", "E'now'", "$$now$$", "$a$now$a$", "'no'\n'w'", "U&'n\\006fw'", "U&'now'",
	} {
		scenes = append(scenes, keptScene{moment, []string{
			"SELECT " + moment + "::timestamptz = transaction_timestamp(), ?",
			"SELECT count(*) FROM days WHERE at = " + moment + " AND id = ? OR transaction_timestamp() = " + moment,
			"WITH i AS (INSERT INTO log VALUES (" + moment + ", ?) RETURNING at) SELECT at = transaction_timestamp() FROM i",
		}, []string{use, begin, use, commit, use}})
	}
	return append(scenes, keptScene{"moments within", []string{
		"SELECT timestamptz 'now' = transaction_timestamp(), ?", "SELECT CAST('now' AS timestamptz) = transaction_timestamp(), ?",
		"SELECT '{now}'::timestamptz[] = ARRAY[transaction_timestamp()], ?", "SELECT lower('[now,infinity]'::tstzrange) = transaction_timestamp(), ?",
		"SELECT ('(now,2)'::log).at = transaction_timestamp(), ?", "SELECT time 'now' = localtime, 'now'::timestamp = localtimestamp, ?",
		"SELECT coalesce(NULL::timestamptz, 'now') = transaction_timestamp(), ?", "SELECT CASE WHEN ? = 1 THEN 'now' ELSE transaction_timestamp() END = transaction_timestamp()",
		"SELECT 'now' = transaction_timestamp(), transaction_timestamp() IN ('now'), 'now' BETWEEN transaction_timestamp() AND transaction_timestamp(), ?",
	}, []string{use, begin, use, commit, use}})
}

var mysqlKeptSetUp = []string{
	"CREATE TABLE t (id int, v varchar(20), ts timestamp NULL)",
	"INSERT INTO t VALUES (1, 'Ab', '2024-01-02 03:04:05')",
	"CREATE VIEW w AS SELECT 1 AS c",
	"CREATE PROCEDURE set_mode(m varchar(100)) SET SESSION sql_mode = m",
	"CREATE PROCEDURE set_names() SET NAMES utf8mb4 COLLATE utf8mb4_bin",
	"CREATE PROCEDURE set_collation() SET collation_connection = utf8mb4_bin",
	"CREATE PROCEDURE set_zone() SET time_zone = '+05:00'",
	"CREATE PROCEDURE set_null() SET sql_auto_is_null = 1",
	"CREATE PROCEDURE shadow() CREATE TEMPORARY TABLE w AS SELECT 'temporary' AS c",
	"CREATE FUNCTION shadows() RETURNS int BEGIN CREATE TEMPORARY TABLE w AS SELECT 'temporary' AS c; RETURN 1; END",
	"CREATE FUNCTION zone() RETURNS int BEGIN SET time_zone = '+05:00'; SET lc_time_names = 'de_DE'; RETURN 1; END",
	"CREATE FUNCTION collate_it() RETURNS int BEGIN SET collation_connection = utf8mb4_bin; RETURN 1; END",
}

func mysqlKeptScenes() []keptScene {
	texts := []string{
		"SELECT ?, \"v\" FROM t", "SELECT ?, 'a' || 'b'", `SELECT ?, 'a\nb'`, "SELECT ?, 'a' = 'A', v = 'ab' FROM t",
		"SELECT ?, collation('x'), charset('x')", "SELECT ?, 'ä', hex('ä')", "SELECT ?, DATE'2024-01-00'", "SELECT ?, NOT 1 BETWEEN -5 AND 5",
		"SELECT ?, ts, ts = '2024-01-02 03:04:05', UNIX_TIMESTAMP(ts), FROM_UNIXTIME(0) FROM t", "SELECT ?, DAYNAME('2024-01-02'), WEEK('2024-01-07')",
		"SELECT ?, 1/3, GROUP_CONCAT(v) FROM t", "SELECT ?, @x, @x = '1'", "SELECT ?, @@sql_mode, @@time_zone", "SELECT ?, database()", "SELECT ?, c FROM w",
		"SELECT ?, TIMESTAMP'2024-01-01 00:00:00', UNIX_TIMESTAMP(TIMESTAMP'2024-01-01 00:00:00')", "SELECT ?, id FROM t LIMIT 1",
	}
	var scenes []keptScene
	for _, change := range []string{
		"SET sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT'", "SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES'", "SET @@sql_mode = 'ORACLE'",
		"SET @@session.sql_mode = 'TRADITIONAL'", "SET @a = 1, sql_mode = 'HIGH_NOT_PRECEDENCE'", "SELECT 1; SET sql_mode = 'ANSI'",
		"CALL set_mode('ANSI')", "EXECUTE IMMEDIATE 'SET sql_mode = ''ANSI'''", "BEGIN NOT ATOMIC SET sql_mode = 'ANSI'; END", raw + "SET sql_mode = 'ANSI'",
		"SET NAMES latin1", "SET NAMES utf8mb4 COLLATE utf8mb4_bin", "SET CHARACTER SET latin1", "SET collation_connection = utf8mb4_bin",
		"SET character_set_client = latin1", "SET character_set_results = latin1", "CALL set_names()", "CALL set_collation()", "SELECT collate_it()",
		"SET time_zone = '+05:00'", "CALL set_zone()", "SELECT zone()", "SET lc_time_names = 'de_DE', default_week_format = 3",
		"SET div_precision_increment = 12, group_concat_max_len = 4", "SET sql_auto_is_null = 1", "CALL set_null()", "SET sql_select_limit = 0",
		"SET @x = 1", "SET @x = 'abc', @y = 2", "SELECT 1.5 INTO @x", "USE mysql", "SET STATEMENT sql_mode = 'ANSI' FOR SELECT 1",
		"CREATE TEMPORARY TABLE w AS SELECT 'temporary' AS c", "CREATE TEMPORARY TABLE t AS SELECT 'temporary' AS v, 2 AS id, NULL AS ts",
		"CALL shadow()", "SELECT shadows()", "DO shadows()", "UPDATE t SET id = id WHERE shadows() = 1", "SET @x = shadows()", raw + "CREATE TEMPORARY TABLE w AS SELECT 'temporary' AS c",
	} {
		scenes = append(scenes, keptScene{change, texts, []string{use, change, use, begin, use, commit}})
	}
	scenes = append(scenes, keptScene{"diagnostics", []string{
		"SELECT 1/0, ?", "SHOW WARNINGS", "SELECT FOUND_ROWS(), ROW_COUNT()", "SELECT v FROM t WHERE id = ?", "SELECT ROW_COUNT(), FOUND_ROWS(), LAST_INSERT_ID()",
	}, []string{use, "UPDATE t SET v = 'Ab'", use}})
	for _, change := range []string{"SET sql_mode = 'ANSI'", "CREATE TEMPORARY TABLE w AS SELECT 'temporary' AS c", "CALL shadow()"} {
		scenes = append(scenes,
			keptScene{change + " in a transaction", texts, []string{use, begin, change, use, rollback, use}},
			keptScene{change + " and back", texts, []string{use, change, use, "SET sql_mode = DEFAULT", "DROP TEMPORARY TABLE IF EXISTS w", use}})
	}
	return scenes
}

var sqliteKeptSetUp = []string{"CREATE TABLE t (id INTEGER, v TEXT)", "INSERT INTO t VALUES (1, 'Ab')"}

func sqliteKeptScenes() []keptScene {
	texts := []string{"SELECT * FROM t WHERE id = ?", "SELECT v LIKE 'ab', t.id FROM t WHERE id = ?", "SELECT * FROM u WHERE ? = 1", `SELECT "x", ? FROM t`}
	var scenes []keptScene
	for _, script := range [][]string{
		{"PRAGMA case_sensitive_like = 1", use, "PRAGMA case_sensitive_like = 0", use},
		{"PRAGMA full_column_names = 1", "PRAGMA short_column_names = 0", use},
		{"PRAGMA reverse_unordered_selects = 1", use}, {raw + "PRAGMA case_sensitive_like = 1", use},
		{"CREATE TEMP TABLE t (id INTEGER, v REAL, w TEXT)", use, "INSERT INTO temp.t VALUES (1, 2, 3)", use, "DROP TABLE temp.t", use},
		{begin, "CREATE TEMP TABLE t AS SELECT 1 AS id, 2 AS v", use, rollback, use}, {raw + "CREATE TEMP VIEW t AS SELECT 1 AS id, 2 AS v, 3 AS w", use},
		{begin, "SAVEPOINT a", "CREATE TEMP TABLE t AS SELECT 1 AS id", use, "ROLLBACK TO a", use, commit, use},
		{"ATTACH ':memory:' AS other", use, "CREATE TABLE other.u AS SELECT 5 AS a", use, "DROP TABLE other.u", "DETACH other", use},
		{begin, "ALTER TABLE t ADD COLUMN x", use, rollback, use}, {others + "ALTER TABLE t ADD COLUMN x", use, others + "ALTER TABLE t DROP COLUMN x", use},
		{"CREATE TABLE u AS SELECT 6 AS a", use, "DROP TABLE u", use, "CREATE VIEW u AS SELECT 7 AS b", use, "DROP VIEW u", use},
	} {
		scenes = append(scenes, keptScene{script[0] + ", " + script[1], texts, append([]string{use}, script...)})
	}
	return scenes
}
