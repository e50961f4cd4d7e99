package compat

import (
	"database/sql"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/calmdocs/dblocker/internal/testdb"
)

var sqliteEngine = &engine{
	name:     "sqlite",
	bindType: sqlx.QUESTION,
	database: testdb.SQLite,
	words: words{
		integer: "INTEGER", float: "REAL", text: "TEXT", longText: "TEXT", blob: "BLOB", boolean: "BOOLEAN", time: "DATETIME",
		serial:       "INTEGER PRIMARY KEY",
		divideByZero: "SELECT 1/0",
		slow:         "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT count(*) FROM n",
		slowFor:      time.Minute,
		isolation:    "PRAGMA read_uncommitted",
	},
	types: []columnType{
		{"INTEGER", []string{"0", "9223372036854775807", "-9223372036854775808", "'text in it'", "x'00ff'", "1e300"}},
		{"BIGINT", []string{"1700000000"}},
		{"REAL", []string{"0.1", "-1.7976931348623157e308", "5e-324", "9e999", "-9e999", "3"}},
		{"NUMERIC", []string{"1", "1.0", "1.5", "'abc'", "'9223372036854775808'"}},
		{"DECIMAL(10,5)", []string{"12345.67891", "'0.1'"}},
		{"TEXT", []string{"''", "'ü 🙂'", "12", "x'c328'", "'2024-02-29 12:00:00'", "char(0)"}},
		{"VARCHAR(10)", []string{"'longer than it may be'"}},
		{"BLOB", []string{"x''", "x'00ff10'", "'text'", "7", "zeroblob(1000)"}},
		{"BOOLEAN", []string{"0", "1", "2", "'true'"}},
		{"DATE", []string{"'2024-02-29'", "'0000-00-00'", "1700000000", "'no date'"}},
		{"DATETIME", []string{"'2024-02-29 23:59:59.123456789+02:00'", "'2024-02-29T23:59:59Z'", "1700000000123", "1.5"}},
		{"TIMESTAMP", []string{"'0001-01-01 00:00:00'", "'9999-12-31 23:59:59'", "-1"}},
		{"TIME", []string{"'12:34:56'"}},
		{"JSON", []string{`'{"a": [1, null]}'`}},
		{"", []string{"1", "1.5", "'text'", "x'00'"}},
	},
	steps: []step{
		{"sqlite: named arguments", stepSQLiteNamed},
		{"sqlite: several statements", stepSQLiteSeveral},
		{"sqlite: pragmas on a connection", stepSQLitePragmas},
		{"sqlite: transactions in SQL", stepSQLiteBegin},
		{"sqlite: types of expressions", stepSQLiteExpressions},
		{"sqlite: constraints", stepSQLiteConstraints},
	},
}

func stepSQLiteNamed(s *session) {
	s.query(s.db, "SELECT :a, @b, $c, :a", sql.Named("a", 1), sql.Named("b", "two"), sql.Named("c", nil))
	s.query(s.db, "SELECT :a, :b", sql.Named("a", 1))
	s.query(s.db, "SELECT :a", sql.Named("b", 1))
	s.query(s.db, "SELECT ?2, ?1, ?2", 1, 2)
	s.query(s.db, "SELECT ?, :a", 1, sql.Named("a", 2))
	s.mustExec("CREATE TABLE named (a, b)")
	s.exec(s.db, "INSERT INTO named VALUES (:a, :b)", sql.Named("b", 2), sql.Named("a", 1))
	stmt, err := s.db.PrepareContext(s.ctx, "SELECT * FROM named WHERE a = :a")
	if err != nil {
		s.Fatal(err)
	}
	defer stmt.Close()
	s.query(prepared{stmt}, "prepared", sql.Named("a", 1))
	s.query(prepared{stmt}, "prepared", 1)
	s.query(prepared{stmt}, "prepared", sql.Named("x", 1))
}

func stepSQLiteSeveral(s *session) {
	s.mustExec("CREATE TABLE several (a); INSERT INTO several VALUES (1); INSERT INTO several VALUES (2), (3);")
	s.exec(s.db, "INSERT INTO several VALUES (?); INSERT INTO several VALUES (?)", 4, 5)
	s.exec(s.db, "INSERT INTO several VALUES (6); SELEC 1")
	s.query(s.db, "SELECT 1 AS a; SELECT 2 AS b")
	s.query(s.db, "INSERT INTO several VALUES (7); SELECT * FROM several")
	s.query(s.db, "SELECT ?; SELECT ?", 1, 2)
	s.query(s.db, "SELECT * FROM several ORDER BY a")
}

func stepSQLitePragmas(s *session) {
	conn := s.conn()
	defer conn.Close()
	for _, pragma := range []string{
		"foreign_keys", "foreign_keys = ON", "foreign_keys", "cache_size = -4000", "cache_size", "user_version = 7", "user_version",
		"journal_mode", "journal_mode = WAL", "journal_mode", "busy_timeout", "table_info(sqlite_master)", "no_such_pragma",
	} {
		s.query(conn, "PRAGMA "+pragma)
	}
	s.exec(conn, "ATTACH ':memory:' AS other")
	s.exec(conn, "CREATE TABLE other.t AS SELECT 1 AS a")
	s.query(conn, "SELECT * FROM other.t")
	s.exec(conn, "DETACH other")
	s.exec(conn, "VACUUM")
	s.query(conn, "EXPLAIN QUERY PLAN SELECT * FROM sqlite_master")
}

func stepSQLiteBegin(s *session) {
	s.table("by_sql", 1)
	conn := s.conn()
	defer conn.Close()
	for _, begin := range []string{"BEGIN", "BEGIN IMMEDIATE", "BEGIN EXCLUSIVE", "SAVEPOINT a"} {
		s.exec(conn, begin)
		s.exec(conn, "UPDATE by_sql SET name = ?", begin)
		s.query(conn, "SELECT * FROM by_sql")
		s.exec(conn, "BEGIN")
		s.exec(conn, "COMMIT")
	}
	s.exec(conn, "ROLLBACK")
}

func stepSQLiteExpressions(s *session) {
	s.query(s.db, "SELECT 1, 1.5, 'x', x'00', NULL, 1 = 1, datetime('2024-01-01'), CAST('5' AS INTEGER), count(*) FROM sqlite_master WHERE 0")
	s.mustExec("CREATE VIEW expressions AS SELECT CAST(1 AS BOOLEAN) AS b, date('2024-01-01') AS d")
	s.query(s.db, "SELECT * FROM expressions")
	s.query(s.db, "VALUES (1, 'a'), (NULL, 2.5)")
}

func stepSQLiteConstraints(s *session) {
	conn := s.conn()
	defer conn.Close()
	s.exec(conn, "PRAGMA foreign_keys = ON")
	s.exec(conn, "CREATE TABLE parent (id INTEGER PRIMARY KEY, a NOT NULL, b UNIQUE, CHECK (a > 0)) STRICT")
	s.exec(conn, "CREATE TABLE parent (id INTEGER PRIMARY KEY, a INT NOT NULL, b INT UNIQUE, CHECK (a > 0)) STRICT")
	s.exec(conn, "CREATE TABLE child (parent INTEGER REFERENCES parent DEFERRABLE INITIALLY DEFERRED)")
	for _, values := range []string{"1, 1, 1", "1, 1, 2", "2, NULL, 2", "2, -1, 2", "2, 2, 1", "2, 'text', 2"} {
		s.exec(conn, "INSERT INTO parent VALUES ("+values+")")
	}
	s.exec(conn, "INSERT INTO child VALUES (99)")
	tx, err := conn.BeginTx(s.ctx, nil)
	if err != nil {
		s.Fatal(err)
	}
	s.exec(tx, "INSERT INTO child VALUES (99)")
	s.note("commit of a violation: %s", describeError(tx.Commit()))
	s.query(conn, "SELECT count(*) FROM child")
}

var moderncSteps = []step{
	{"modernc: the serialized database", stepModerncSerialize},
}

// stepModerncSerialize calls what the driver offers only on its connection.
func stepModerncSerialize(s *session) {
	s.table("serialized", 1)
	conn := s.conn()
	defer conn.Close()
	s.inner(conn, func(inner any) {
		image, err := inner.(interface{ Serialize() ([]byte, error) }).Serialize()
		s.note("an SQLite file %v, %s", strings.HasPrefix(string(image), "SQLite format 3"), describeError(err))
	})
}
