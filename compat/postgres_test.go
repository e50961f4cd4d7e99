package compat

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/calmdocs/dblocker/internal/testdb"
)

var postgresEngine = &engine{
	name:     "postgres",
	bindType: sqlx.DOLLAR,
	database: serverDatabase(testdb.Postgres),
	words: words{
		integer: "bigint", float: "double precision", text: "text", longText: "text", blob: "bytea", boolean: "boolean", time: "timestamptz",
		serial:       "serial PRIMARY KEY",
		divideByZero: "SELECT 1/0",
		slow:         "SELECT pg_sleep(10)",
		slowFor:      10 * time.Second,
		isolation:    "SHOW transaction_isolation",
	},
	ownTypes: []string{
		"CREATE TYPE types_enum AS ENUM ('sad', 'happy')",
		"CREATE TYPE types_pair AS (a int, b text)",
		"CREATE DOMAIN types_positive AS int CHECK (VALUE > 0)",
	},
	types: []columnType{
		{"smallint", []string{"-32768", "32767"}},
		{"integer", []string{"-2147483648", "2147483647"}},
		{"bigint", []string{"-9223372036854775808", "9223372036854775807"}},
		{"numeric", []string{"0", "'NaN'", "'Infinity'", "'-Infinity'", "1e100", "123456789012345678901234567890.123456789", "1e-50"}},
		{"numeric(20,5)", []string{"1.5", "-999999999999999.99999"}},
		{"real", []string{"0.1", "'NaN'", "'-Infinity'", "3.4028235e38"}},
		{"double precision", []string{"0.1", "'NaN'", "'Infinity'", "5e-324", "1.7976931348623157e308", "-0.0"}},
		{"money", []string{"'1.50'", "-92233720368547758.08"}},
		{"boolean", []string{"true", "false"}},
		{"char(5)", []string{"'ab'", "''"}},
		{"varchar(10)", []string{"'ten chars.'"}},
		{"text", []string{"''", "'ü 🙂 '' \" \\'", "repeat('x', 100000)"}},
		{`"char"`, []string{"'x'"}},
		{"name", []string{"'a_name'"}},
		{"bytea", []string{`'\x'`, `'\x00ff27'`}},
		{"date", []string{"'2024-02-29'", "'infinity'", "'-infinity'", "'4713-01-01 BC'", "'5874897-12-31'"}},
		{"time", []string{"'00:00:00'", "'24:00:00'", "'23:59:59.999999'"}},
		{"timetz", []string{"'23:59:59.5+07:30'", "'00:00:00+00'"}},
		{"timestamp", []string{"'2024-02-29 23:59:59.123456'", "'infinity'", "'0044-03-15 12:00:00 BC'", "'294276-12-31 23:59:59.999999'"}},
		{"timestamptz", []string{"'2024-02-29 23:59:59.123456+05:45'", "'-infinity'", "'0001-01-01 00:00:00+00'", "'10000-01-01 00:00:00+00'"}},
		{"interval", []string{"'1 year 2 months -3 days 04:05:06.789'", "'178000000 years'"}},
		{"uuid", []string{"'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"}},
		{"json", []string{`'{"a": [1, null]}'`, "'null'"}},
		{"jsonb", []string{`'{"b": 1, "a": [1, null]}'`, "'\"text\"'"}},
		{"jsonpath", []string{"'$.a[*]'"}},
		{"inet", []string{"'192.168.0.1/24'", "'::1'"}},
		{"cidr", []string{"'10.0.0.0/8'"}},
		{"macaddr", []string{"'08:00:2b:01:02:03'"}},
		{"point", []string{"'(1,2.5)'"}},
		{"line", []string{"'{1,2,3}'"}},
		{"box", []string{"'(2,2),(1,1)'"}},
		{"path", []string{"'[(1,1),(2,2)]'"}},
		{"polygon", []string{"'((1,1),(2,2),(3,1))'"}},
		{"circle", []string{"'<(1,1),2>'"}},
		{"bit(3)", []string{"B'101'"}},
		{"varbit", []string{"B''", "B'1011011101111'"}},
		{"int4range", []string{"'[1,10)'", "'empty'", "'(,)'"}},
		{"tstzrange", []string{"'[2024-01-01 00:00+00,)'"}},
		{"int4multirange", []string{"'{[1,3), [5,7)}'"}},
		{"tsvector", []string{"'a fat cat'"}},
		{"tsquery", []string{"'fat & cat'"}},
		{"oid", []string{"4294967295"}},
		{"regtype", []string{"'int'"}},
		{"pg_lsn", []string{"'16/B374D848'"}},
		{"integer[]", []string{"'{}'", "'{1,NULL,3}'", "'{{1,2},{3,4}}'", "'[0:1]={7,8}'"}},
		{"text[]", []string{`'{"a,b","c\"d",NULL,""}'`}},
		{"bytea[]", []string{`ARRAY['\x00'::bytea]`}},
		{"timestamptz[]", []string{"ARRAY['2024-01-01 00:00+00'::timestamptz]"}},
		{"types_enum", []string{"'happy'"}},
		{"types_pair", []string{"ROW(1, 'x, \"y\"')", "ROW(NULL, NULL)"}},
		{"types_positive", []string{"5"}},
	},
	steps: []step{
		{"postgres: arrays", stepArrays},
		{"postgres: session settings", stepSettings},
		{"postgres: advisory locks", stepAdvisoryLocks},
		{"postgres: cursors", stepCursors},
		{"postgres: commit that fails", stepDeferredViolation},
		{"postgres: functions and notices", stepFunctions},
		{"postgres: several statements", stepPostgresSeveral},
		{"postgres: statement timeout", stepServerTimeout},
	},
}

func stepArrays(s *session) {
	s.mustExec("CREATE TABLE arrays (id int, i bigint[], t text[], b bytea[], f double precision[])")
	insert := "INSERT INTO arrays VALUES (?, ?, ?, ?, ?)"
	s.exec(s.db, insert, 1, pq.Array([]int64{1, -2}), pq.Array([]string{"a,b", `c"d`, ""}), pq.Array([][]byte{{0, 255}}), pq.Array([]float64{0.5}))
	s.exec(s.db, insert, 2, pq.Array([]int64{}), pq.Array([]string(nil)), nil, pq.Float64Array{1, 2})
	s.exec(s.db, insert, 3, []int64{1, 2}, []string{"native"}, nil, nil)
	rows, err := s.db.QueryContext(s.ctx, "SELECT i, t, b FROM arrays WHERE id < 3 ORDER BY id")
	if err != nil {
		s.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var i []int64
		var t []sql.NullString
		var b [][]byte
		err := rows.Scan(pq.Array(&i), pq.Array(&t), pq.Array(&b))
		s.note("arrays %v %v %q, %s", i, t, b, describeError(err))
	}
	s.query(s.db, "SELECT id FROM arrays WHERE id = ANY(?) ORDER BY id", pq.Array([]int{1, 3}))
	s.query(s.db, "SELECT id FROM arrays WHERE id = ANY(?) ORDER BY id", []int32{2})
}

func stepSettings(s *session) {
	conn := s.conn()
	s.exec(conn, "SET TIME ZONE 'Asia/Kathmandu'")
	s.exec(conn, "SET my.variable = 'kept'")
	for range 2 {
		s.query(conn, "SELECT '2024-01-01 00:00:00+00'::timestamptz, current_setting('my.variable'), current_setting('TimeZone')")
	}
	tx, err := conn.BeginTx(s.ctx, nil)
	if err != nil {
		s.Fatal(err)
	}
	s.exec(tx, "SET LOCAL my.variable = 'local'")
	s.query(tx, "SELECT current_setting('my.variable')")
	s.note("commit: %s", describeError(tx.Commit()))
	s.query(conn, "SELECT current_setting('my.variable')")
	s.exec(conn, "SET no_such_setting = 1")
	s.exec(conn, "DISCARD ALL")
	s.query(conn, "SELECT 1")
	conn.Close()
}

// stepAdvisoryLocks holds a lock of the server on one session, as migration
// tools do, and works beside it.
func stepAdvisoryLocks(s *session) {
	holder, other := s.conn(), s.conn()
	defer holder.Close()
	defer other.Close()
	s.query(holder, "SELECT pg_advisory_lock(7)")
	s.query(other, "SELECT pg_try_advisory_lock(7)")
	s.query(s.db, "SELECT pg_try_advisory_lock(7)")
	s.query(holder, "SELECT pg_advisory_unlock(7)")
	s.query(other, "SELECT pg_try_advisory_lock(7)")
	s.query(other, "SELECT pg_advisory_unlock(7), pg_advisory_unlock(7)")
}

func stepCursors(s *session) {
	tx := s.begin(nil)
	defer tx.Rollback()
	s.exec(tx, "DECLARE c CURSOR FOR SELECT i FROM generate_series(1, 10) AS i")
	s.query(tx, "FETCH 3 FROM c")
	s.exec(tx, "MOVE 2 FROM c")
	s.query(tx, "FETCH ALL FROM c")
	s.exec(tx, "CLOSE c")
}

func stepDeferredViolation(s *session) {
	s.mustExec("CREATE TABLE later (id int PRIMARY KEY, other int REFERENCES later DEFERRABLE INITIALLY DEFERRED)")
	tx := s.begin(nil)
	s.exec(tx, "INSERT INTO later VALUES (1, 99)")
	s.note("commit: %s", describeError(tx.Commit()))
	s.query(s.db, "SELECT * FROM later")
}

func stepFunctions(s *session) {
	s.mustExec(`CREATE FUNCTION loud(n int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN
		RAISE NOTICE 'n is %', n;
		IF n < 0 THEN RAISE EXCEPTION 'negative: %', n USING ERRCODE = 'ZX001', HINT = 'be positive', DETAIL = 'detail', CONSTRAINT = 'c'; END IF;
		RETURN n + 1; END $$`)
	s.query(s.db, "SELECT loud(1)")
	s.query(s.db, "SELECT loud(?)", 2)
	s.query(s.db, "SELECT loud(-1)")
	s.query(s.db, "SELECT loud(2 - i) FROM generate_series(1, 5) AS i")
	s.exec(s.db, "DO $$ BEGIN PERFORM loud(-2); END $$")
	s.exec(s.db, "VACUUM")
}

func stepPostgresSeveral(s *session) {
	s.mustExec("CREATE TABLE several (a int); INSERT INTO several VALUES (1), (2)")
	s.query(s.db, "SELECT 1 AS a; SELECT 'x' AS b, 2 AS c; SELECT 3 WHERE false")
	s.query(s.db, "SELECT 1; SELECT 1/0; SELECT 2")
	s.exec(s.db, "INSERT INTO several VALUES (?); SELECT 1", 3)
}

func stepServerTimeout(s *session) {
	conn := s.conn()
	defer conn.Close()
	s.exec(conn, "SET statement_timeout = 500") // long enough for the quick statements
	s.query(conn, "SELECT pg_sleep(10)")
	s.exec(conn, "SELECT pg_sleep(10)")
	s.query(conn, "SHOW statement_timeout")
}

var pqSteps = []step{
	{"pq: COPY in a transaction", func(s *session) {
		s.table("copied_tx", 0)
		tx := s.begin(nil)
		copyRows(s, tx.PrepareContext, "copied_tx", [][]any{{1, "a\tb\\"}, {2, nil}, {3, "ü"}})
		s.note("commit: %s", describeError(tx.Commit()))
		s.query(s.db, "SELECT * FROM copied_tx ORDER BY id")
	}},
	{"pq: COPY on a connection", func(s *session) {
		s.table("copied_conn", 0)
		conn := s.conn()
		defer conn.Close()
		copyRows(s, conn.PrepareContext, "copied_conn", [][]any{{1, "first"}, {2, []byte("bytes")}})
		s.query(conn, "SELECT * FROM copied_conn ORDER BY id")
	}},
	{"pq: COPY of what the server refuses", func(s *session) {
		s.table("copied_badly", 0)
		tx := s.begin(nil)
		copyRows(s, tx.PrepareContext, "copied_badly", [][]any{{1, "a"}, {1, "same key"}})
		s.note("commit: %s", describeError(tx.Commit()))
		tx = s.begin(nil)
		copyRows(s, tx.PrepareContext, "copied_badly", [][]any{{1}, {struct{}{}, "x"}})
		s.note("rollback: %s", describeError(tx.Rollback()))
		s.query(s.db, "SELECT * FROM copied_badly")
	}},
	{"pq: notifications", stepPQNotifications},
}

// copyRows copies rows as lib/pq documents it: an Exec for each, and one without
// arguments at the end. The statement is what pq.CopyIn makes.
func copyRows(s *session, prepare func(context.Context, string) (*sql.Stmt, error), table string, rows [][]any) {
	stmt, err := prepare(s.ctx, `COPY "`+table+`" ("id", "name") FROM STDIN`)
	s.note("prepare: %s", describeError(err))
	if err != nil {
		return
	}
	for _, row := range append(rows, nil) {
		s.exec(prepared{stmt}, fmt.Sprintf("copy of %d values", len(row)), row...)
	}
	s.note("close: %s", describeError(stmt.Close()))
}

// stepPQNotifications listens on a session of its own for as long as it likes.
func stepPQNotifications(s *session) {
	conn := s.conn()
	defer conn.Close()
	heard := 0
	s.inner(conn, func(inner any) {
		pq.SetNotificationHandler(inner.(driver.Conn), func(n *pq.Notification) {
			s.note("notified of %q on %q", n.Extra, n.Channel)
			heard++
		})
	})
	s.exec(conn, "LISTEN news")
	s.exec(s.db, "NOTIFY news, 'one'")
	s.exec(s.db, "NOTIFY news, 'two'")
	s.await(func() bool { return conn.PingContext(s.ctx) == nil && heard == 2 })
}

var pgxSteps = []step{
	{"pgx: named arguments", func(s *session) {
		s.query(s.db, "SELECT @a::int, @b::text, @a::int", pgx.NamedArgs{"a": 1, "b": "two"})
		s.query(s.db, "SELECT @a::int", pgx.StrictNamedArgs{"b": 1})
	}},
	{"pgx: execution modes", func(s *session) {
		for _, mode := range []pgx.QueryExecMode{
			pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
		} {
			s.query(s.db, "SELECT ?::int + 1, ?::text", mode, 1, "x")
		}
		s.query(s.db, "SELECT ?::int, now() > '2020-01-01'", pgx.QueryResultFormats{pgx.TextFormatCode}, 1)
	}},
	{"pgx: its own types", func(s *session) {
		s.query(s.db, "SELECT ?::numeric, ?::date, ?::int[], ?::jsonb", pgtype.Numeric{Int: big.NewInt(-7), Exp: 3, Valid: true},
			pgtype.Date{InfinityModifier: pgtype.Infinity, Valid: true}, []int32{1, 2}, map[string]any{"a": 1})
		var list []string
		err := s.db.QueryRowContext(s.ctx, "SELECT '{a,NULL}'::text[]").Scan(pgtype.NewMap().SQLScanner(&list))
		s.note("scanned %q, %s", list, describeError(err))
	}},
	{"pgx: batch and COPY on the inner connection", stepPgxRaw},
}

func stepPgxRaw(s *session) {
	s.table("by_batch", 1)
	conn := s.conn()
	defer conn.Close()
	s.inner(conn, func(inner any) {
		c := inner.(*stdlib.Conn).Conn()
		batch := new(pgx.Batch)
		batch.Queue("INSERT INTO by_batch VALUES (2, $1)", "two")
		batch.Queue("SELECT name FROM by_batch ORDER BY id")
		results := c.SendBatch(s.ctx, batch)
		tag, err := results.Exec()
		s.note("batch: %s, %s", tag, describeError(err))
		names, err := pgx.CollectRows(must(results.Query()), pgx.RowTo[string])
		s.note("batch: %s, %s", strings.Join(names, ", "), describeError(err))
		s.note("close: %s", describeError(results.Close()))
		n, err := c.CopyFrom(s.ctx, pgx.Identifier{"by_batch"}, []string{"id", "name"}, pgx.CopyFromRows([][]any{{3, "three"}, {4, nil}}))
		s.note("copied %d, %s", n, describeError(err))
	})
	s.query(conn, "SELECT * FROM by_batch ORDER BY id")
}

// must is for pgx's Query, whose error is also in its rows.
func must[T any](v T, _ error) T { return v }
