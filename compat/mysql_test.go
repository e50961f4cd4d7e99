package compat

import (
	"database/sql/driver"
	"io"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jmoiron/sqlx"

	"github.com/calmdocs/dblocker/internal/testdb"
)

var mysqlEngine = &engine{
	name:     "mysql",
	bindType: sqlx.QUESTION,
	database: serverDatabase(testdb.MySQL),
	words: words{
		integer: "bigint", float: "double", text: "varchar(200)", longText: "longtext", blob: "longblob", boolean: "boolean", time: "datetime(6)",
		serial:       "integer PRIMARY KEY AUTO_INCREMENT",
		divideByZero: "SELECT 1/0",
		slow:         "SELECT SLEEP(4)",
		slowFor:      4 * time.Second, // it goes on when its context has ended
		isolation:    "SHOW VARIABLES LIKE 't%\\_isolation'",
	},
	types: []columnType{
		{"tinyint", []string{"-128", "127"}},
		{"tinyint unsigned", []string{"255"}},
		{"boolean", []string{"true", "false", "2"}},
		{"smallint", []string{"-32768"}},
		{"smallint unsigned", []string{"65535"}},
		{"mediumint", []string{"-8388608"}},
		{"mediumint unsigned", []string{"16777215"}},
		{"int", []string{"-2147483648"}},
		{"int unsigned", []string{"4294967295"}},
		{"bigint", []string{"-9223372036854775808", "9223372036854775807"}},
		{"bigint unsigned", []string{"18446744073709551615"}},
		{"decimal(20,5)", []string{"0", "-999999999999999.99999"}},
		{"decimal(65,30)", []string{"12345678901234567890123456789012345.123456789012345678901234567890"}},
		{"float", []string{"0.1", "-3.40282e38"}},
		{"double", []string{"0.1", "-1.7976931348623157e308", "2.2250738585072014e-308"}},
		{"bit(1)", []string{"b'1'"}},
		{"bit(64)", []string{"18446744073709551615"}},
		{"char(5)", []string{"'ab'", "''"}},
		{"varchar(10)", []string{"'ten chars.'", "'ü'"}},
		{"binary(5)", []string{"x'00ff'"}},
		{"varbinary(10)", []string{"x''", "x'00ff27'"}},
		{"tinytext", []string{"'tiny'"}},
		{"text", []string{"''", "'ü '' \" \\\\'", "repeat('x', 60000)"}},
		{"mediumtext", []string{"repeat('y', 100000)"}},
		{"longtext CHARACTER SET utf8mb4", []string{"'🙂'"}},
		{"tinyblob", []string{"x'00'"}},
		{"blob", []string{"x'00ff'"}},
		{"mediumblob", []string{"x'01'"}},
		{"longblob", []string{"x''", "repeat(x'00', 100000)"}},
		{"date", []string{"'1000-01-01'", "'9999-12-31'", "'2024-02-29'"}},
		{"time", []string{"'-838:59:59'", "'23:59:59'"}},
		{"time(6)", []string{"'00:00:00.000001'"}},
		{"datetime", []string{"'1000-01-01 00:00:00'", "'9999-12-31 23:59:59'"}},
		{"datetime(6)", []string{"'2024-02-29 23:59:59.999999'"}},
		{"timestamp(3)", []string{"'1971-01-01 00:00:01.001'", "'2038-01-18 03:14:07.999'"}},
		{"year", []string{"1901", "2155", "0"}},
		{"enum('a', 'b')", []string{"'b'"}},
		{"set('x', 'y', 'z')", []string{"'x,z'", "''"}},
		{"json", []string{`'{"a": [1, null]}'`, "'null'"}},
		{"point", []string{"ST_GeomFromText('POINT(1 2.5)')"}},
		{"geometry", []string{"ST_GeomFromText('LINESTRING(0 0, 1 1)')"}},
	},
	steps: []step{
		{"mysql: session variables", stepMySQLVariables},
		{"mysql: locks of a session", stepGetLock},
		{"mysql: several result sets", stepMySQLSeveral},
		{"mysql: zero dates", stepZeroDates},
		{"mysql: statements that only some protocols take", stepMySQLProtocols},
		{"mysql: error in the middle of rows", stepMySQLLateError},
	},
}

func stepMySQLVariables(s *session) {
	conn := s.conn()
	defer conn.Close()
	s.exec(conn, "SET @mine = 'kept', time_zone = '+05:45', sql_mode = ''")
	for range 2 {
		s.query(conn, "SELECT @mine, @@time_zone, @@sql_mode, @nobodys")
	}
	s.exec(conn, "CREATE TEMPORARY TABLE serial (id int PRIMARY KEY AUTO_INCREMENT, t timestamp NULL)")
	s.exec(conn, "INSERT INTO serial VALUES (NULL, '2024-01-01 00:00:00')")
	s.query(conn, "SELECT LAST_INSERT_ID(), id, t FROM serial")
	s.query(conn, "SELECT id INTO @mine FROM serial")
	s.query(conn, "SELECT @mine")
	s.exec(conn, "SET autocommit = 0")
	s.exec(conn, "INSERT INTO serial VALUES (NULL, NULL)")
	s.exec(conn, "ROLLBACK")
	s.exec(conn, "SET autocommit = 1")
	s.query(conn, "SELECT count(*) FROM serial")
	s.exec(conn, "DROP TABLE serial")
}

func stepGetLock(s *session) {
	holder, other := s.conn(), s.conn()
	defer holder.Close()
	defer other.Close()
	get := "SELECT GET_LOCK(concat(database(), '.migration'), 0)"
	release := "SELECT RELEASE_LOCK(concat(database(), '.migration'))"
	for _, on := range []querier{holder, other, s.db} {
		s.query(on, get)
	}
	s.query(holder, release)
	s.query(other, get)
	s.query(other, release)
	s.query(other, release)
}

func stepMySQLSeveral(s *session) {
	s.table("several", 2)
	s.exec(s.db, "INSERT INTO several VALUES (3, 'c'); UPDATE several SET name = 'x'")
	s.query(s.db, "SELECT 1 AS a; SELECT 'x' AS b, 2 AS c; UPDATE several SET name = 'y'; SELECT * FROM several ORDER BY id")
	s.query(s.db, "SELECT 1; SELECT * FROM nowhere; SELECT 2")
	s.query(s.db, "SELECT ?; SELECT ?", 1, 2)
	s.mustExec("CREATE PROCEDURE two_sets() BEGIN SELECT 1 AS a; SELECT id, name FROM several ORDER BY id; END")
	s.query(s.db, "CALL two_sets()")
	s.exec(s.db, "CALL two_sets()")
	s.query(s.db, "SELECT 1")
}

// stepZeroDates are a date that Go does not know.
func stepZeroDates(s *session) {
	conn := s.conn()
	defer conn.Close()
	s.exec(conn, "SET sql_mode = ''")
	s.exec(conn, "CREATE TABLE zero_dates (d date, t datetime)")
	s.exec(conn, "INSERT INTO zero_dates VALUES ('0000-00-00', '0000-00-00 00:00:00'), ('2024-00-00', '2024-02-30')")
	s.query(conn, "SELECT * FROM zero_dates")
	s.query(conn, "SELECT * FROM zero_dates WHERE ? = 1", 1)
}

// stepMySQLProtocols prepares what can only be sent as text, and leaves its
// sessions in a state that nobody should inherit.
func stepMySQLProtocols(s *session) {
	s.table("protocols", 2)
	for _, statement := range []string{"LOCK TABLES protocols READ", "UNLOCK TABLES", "USE mysql", "SHOW TABLES LIKE 'prot%'"} {
		conn := s.conn()
		s.exec(conn, statement)
		stmt, err := conn.PrepareContext(s.ctx, statement)
		s.note("prepare %s: %s", statement, describeError(err))
		if err == nil {
			s.query(prepared{stmt}, statement)
			stmt.Close()
		}
		s.exec(conn, "UNLOCK TABLES")
		conn.Raw(func(any) error { return driver.ErrBadConn })
		conn.Close()
	}
}

// stepMySQLLateError runs into an error after the first rows were read.
func stepMySQLLateError(s *session) {
	s.table("late_error", 3)
	s.query(s.db, "SELECT id, (SELECT e.id FROM late_error e WHERE e.id <> l.id AND l.id = 3) FROM late_error l ORDER BY id")
	s.query(s.db, "SELECT id, exp(id * 400) FROM late_error ORDER BY id")
	s.query(s.db, "SELECT 1")
}

var mysqlSteps = []step{
	{"mysql: LOAD DATA LOCAL", stepLoadData},
	{"mysql: affected rows of each statement", stepMySQLAllResults},
}

func init() {
	mysql.RegisterReaderHandler("compat", func() io.Reader { return strings.NewReader("1\tone\n2\t\\N\n3\tdrei ü\n") })
}

func stepLoadData(s *session) {
	s.table("loaded", 0)
	s.exec(s.db, "LOAD DATA LOCAL INFILE 'Reader::compat' INTO TABLE loaded CHARACTER SET utf8mb4")
	s.exec(s.db, "LOAD DATA LOCAL INFILE 'Reader::unknown' INTO TABLE loaded")
	s.query(s.db, "SELECT * FROM loaded ORDER BY id")
}

// stepMySQLAllResults uses what the driver's documentation tells to use Raw for.
func stepMySQLAllResults(s *session) {
	s.table("all_results", 3)
	conn := s.conn()
	defer conn.Close()
	s.inner(conn, func(inner any) {
		res, err := inner.(driver.ExecerContext).ExecContext(s.ctx, "DELETE FROM all_results WHERE id = 1; DELETE FROM all_results", nil)
		s.note("exec: %s", describeError(err))
		s.note("affected %v", res.(mysql.Result).AllRowsAffected())
	})
}
