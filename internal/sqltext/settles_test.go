package sqltext

import (
	"strings"
	"testing"
)

// TestSettles: what PostgreSQL makes a value of when it parses a text, and other engines do not.
func TestSettles(t *testing.T) {
	for _, row := range []struct {
		query string
		want  Settles
	}{
		{"SELECT a FROM t WHERE id = $1", SettlesNothing},
		{"SELECT 1, 1.5, .5, 1e10, $1, 'x', 'active', '', '%', '-', '7', '042', NULL, true", SettlesNothing},
		{"SELECT '30 days'::interval, interval '1 year 2 months 3 seconds'", SettlesNothing},
		{"SELECT 'epoch', 'infinity', 'allballs', 'known', 'snow', 'nowhere', 'todays', '{}', '{a,b}', '[)'", SettlesNothing},
		{"SELECT nextval('s'), to_tsvector('english', $1), date_trunc('day', a)", SettlesNothing},
		{"SELECT now, \"today\", now(), CURRENT_DATE, t.now, $1::date /* 'now' */ -- 'now'", SettlesNothing},

		{"INSERT INTO t VALUES ('now', $1)", SettlesByTime},
		{"SELECT 'NoW ', ' today', 'tomorrow+', 'yesterday'", SettlesByTime},
		{"SELECT '{now}', '[a,today)', '(now)', 'now!', 'now_', 'today 12:00', 'today zulu'", SettlesByTime},
		{"SELECT 'n\\x', E'x', e'n\\x6fw', U&'n!006fw' UESCAPE '!'", SettlesByTime},
		{"SELECT $$x$$", SettlesByTime}, {"SELECT $a$now$a$", SettlesByTime},
		{"SELECT 'no'\n'w'", SettlesByTime},

		{"SELECT '2024-01-02'", SettlesBySettings},
		{"SELECT date '20240102'", SettlesBySettings},
		{"SELECT '0405'::timetz", SettlesBySettings},
		{"SELECT '1/2/03', '12:00', '5 Jan 2024', '-1 day', '1.5', '$12', '1,5', 'j1', '1 2', '{1,2}'", SettlesBySettings},
		{"SELECT '30 days ', '30  days', '30 moments', '1 day 5', '3 '", SettlesBySettings},
	} {
		for _, query := range apart(row.query) {
			if got := Classify(PostgreSQL, query).Settles; got != row.want {
				t.Errorf("%q: got %v, want %v", query, got, row.want)
			}
		}
		for _, d := range []Dialect{SQLite, MySQL} {
			if s := Classify(d, row.query); !s.Multi && s.Settles != SettlesNothing {
				t.Errorf("%v: %q settles something", d, row.query)
			}
		}
	}
}

// TestAlters: what may change how a server parses, and what cannot.
func TestAlters(t *testing.T) {
	const pg, my = PostgreSQL, MySQL
	for _, row := range []struct {
		dialect Dialect
		query   string
		want    Alters
	}{
		{pg, "SELECT count(*), lower(a), \"upper\"(b), pg_catalog.abs(c) FROM t WHERE d IN ($1, $2) AND e = ANY ($3)", AltersNothing},
		{pg, "INSERT INTO s.t (a, b) VALUES ($1, coalesce($2, now()))", AltersNothing},
		{pg, "INSERT INTO \"t\" (\"a\") VALUES ($1) ON CONFLICT (a) DO UPDATE SET (a, b) = (1, 2) RETURNING (a)", AltersNothing},
		{pg, "WITH x (a) AS (SELECT 1) SELECT * FROM x JOIN y USING (a)", AltersNothing},
		{pg, "WITH x (a) AS (SELECT 1), y (b, c) AS (SELECT 2, 3) SELECT i FROM generate_series(1, 2) AS z (i), x, y", AltersNothing},
		{pg, "SELECT DISTINCT ON (a) f(b) FROM t", AltersSession},
		{pg, "WITH x (a) AS (SELECT 1), y (b) AS (SELECT f(a) FROM x) SELECT 1", AltersSession},
		{pg, "SELECT (1) + f(2)", AltersSession}, {pg, "SELECT 1 WHERE (true) AND f(2)", AltersSession}, {pg, "SELECT * FROM (SELECT 1) x, f(1)", AltersSession},
		{pg, "SELECT a::numeric(10, 2), b FROM unnest($1) AS u (b) WHERE EXISTS (SELECT 1)", AltersNothing},
		{pg, "SELECT ST_Distance(a, b), gen_random_uuid(), pg_advisory_xact_lock($1)", AltersNothing},
		{pg, "BEGIN", AltersNothing}, {pg, "COMMIT", AltersNothing}, {pg, "", AltersNothing}, {pg, "LISTEN x", AltersNothing},
		{pg, "SET TRANSACTION READ ONLY", AltersNothing}, {pg, "SET LOCAL statement_timeout = '5s'", AltersNothing},
		{pg, "EXPLAIN SELECT f(1)", AltersSession},

		{pg, "SET app.user = '5'", AltersOwn}, {pg, "SET LOCAL app.user TO 5", AltersOwn}, {pg, "RESET app.user", AltersOwn},
		{pg, "SELECT set_config('app.user', $1, true)", AltersOwn},

		{pg, "SELECT set_config('search_path', $1, true)", AltersSession},
		{pg, "SELECT set_config($1, $2, true), a FROM t", AltersSession},
		{pg, "WITH a AS (SELECT pg_catalog.set_config('TimeZone', 'UTC', false)) SELECT 1 FROM a", AltersSession},
		{pg, "SELECT set_config('app.user', $1, true), set_config('role', $2, true)", AltersSession},
		{pg, "SELECT pg_set_tenant($1)", AltersSession}, {pg, "SELECT f()", AltersSession}, {pg, "SELECT app.lower(a)", AltersSession}, {pg, "SELECT \"f\" (1)", AltersSession},
		{pg, "INSERT INTO t VALUES (f($1))", AltersSession}, {pg, "SELECT * FROM pg_temp.f($1) AS x", AltersSession},
		{pg, "SET search_path TO a", AltersSession}, {pg, "SET LOCAL TIME ZONE 'UTC'", AltersSession}, {pg, "SET ROLE x", AltersSession},
		{pg, "SET SESSION AUTHORIZATION x", AltersSession}, {pg, "RESET ALL", AltersSession}, {pg, "DISCARD TEMP", AltersSession},
		{pg, "DO $$ BEGIN END $$", AltersSession}, {pg, "CALL p()", AltersSession}, {pg, "EXECUTE x", AltersSession},
		{pg, "FETCH ALL FROM c", AltersSession}, {pg, "SELECT 1; SET ROLE x", AltersSession}, {pg, "LOAD 'auto_explain'", AltersSession},
		{pg, "SELECT * INTO TEMP t FROM u", AltersSession}, {pg, "SELECT 1 INTO TEMPORARY TABLE t", AltersSession}, {pg, "frobnicate", AltersSession},

		{my, "SELECT COUNT(*), IF(a, 1, 2) FROM t WHERE b IN (?) AND MATCH (a) AGAINST (?)", AltersNothing},
		{my, "INSERT INTO t (a) VALUES (?) ON DUPLICATE KEY UPDATE a = VALUES(a)", AltersNothing},
		{my, "INSERT t (a) VALUES (?)", AltersNothing}, {my, "REPLACE t (a) VALUES (?)", AltersNothing},
		{my, "SET @a = 1, @b = CONCAT(1, 2)", AltersNothing}, {my, "SET autocommit = 0", AltersNothing}, {my, "START TRANSACTION", AltersNothing},
		{my, "SET @a = 1, sql_mode = ''", AltersSession}, {my, "SET @@sql_mode = ''", AltersSession}, {my, "SET NAMES latin1", AltersSession},
		{my, "SET SESSION time_zone = '+01:00'", AltersSession}, {my, "USE x", AltersSession}, {my, "CALL p()", AltersSession},
		{my, "DO f()", AltersSession}, {my, "SELECT f(1)", AltersSession}, {my, "BEGIN NOT ATOMIC SET @a = 1; END", AltersSession},

		{SQLite, "SELECT f(1)", AltersNothing}, {SQLite, "PRAGMA case_sensitive_like = 1", AltersSession}, {SQLite, "PRAGMA user_version", AltersNothing},
		{Generic, "SELECT lower(?)", AltersNothing}, {Generic, "PRAGMA foreign_keys = 1", AltersSession},
	} {
		if got := Classify(row.dialect, row.query).Alters; got != row.want {
			t.Errorf("%v: %q: got %v, want %v", row.dialect, row.query, got, row.want)
		}
	}
}

// TestSelectIntoMakesATable that others see, unless it is a temporary one.
func TestSelectIntoMakesATable(t *testing.T) {
	for query, ddl := range map[string]bool{
		"SELECT * INTO t FROM u":         true,
		"SELECT * INTO TEMP t FROM u":    false,
		"INSERT INTO t VALUES (1)":       false,
		"WITH a AS (SELECT 1) TABLE a":   false,
		"MERGE INTO t USING u ON true":   false,
		"SELECT 1; SELECT 2 AS a INTO t": true,
		"SELECT a.into FROM a":           false,
		"EXPLAIN SELECT * INTO t FROM u": false,
	} {
		if got := Classify(PostgreSQL, query).DDL; got != ddl {
			t.Errorf("%q: DDL is %v, want %v", query, got, ddl)
		}
	}
}

// apart makes a query of each expression of a SELECT, so that one of them does not hide another.
func apart(query string) (queries []string) {
	list, ok := strings.CutPrefix(query, "SELECT ")
	if !ok || strings.Contains(query, " FROM ") || strings.Contains(query, "(") || strings.Contains(query, "$") {
		return []string{query}
	}
	for _, expression := range strings.Split(list, ", ") {
		queries = append(queries, "SELECT "+expression)
	}
	return queries
}
