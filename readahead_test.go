package dblocker

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/calmdocs/dblocker/internal/mysql"
	"github.com/calmdocs/dblocker/internal/postgres"
	"github.com/calmdocs/dblocker/internal/sqlite"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// TestForgottenRows: a program that asks for the rows of a statement that has none to speak
// of, and forgets to close them, keeps nobody waiting.
func TestForgottenRows(t *testing.T) {
	onJournals(t, "lock_timeout=0", func(t *testing.T, db *sql.DB, mode string) {
		for _, ctx := range []context.Context{context.Background(), asUser(1)} {
			for _, query := range []string{
				"INSERT INTO counters VALUES ('5', 5)",
				"UPDATE counters SET n = n + 1 RETURNING n",
				"DELETE FROM counters WHERE id = '5'",
				"PRAGMA foreign_keys=1",
				"PRAGMA journal_mode",
				"PRAGMA wal_checkpoint",
				"CREATE TABLE IF NOT EXISTS other (a)",
				"SELECT 1; SELECT 2",
				"",
				"-- nothing",
				"INSERT INTO counters VALUES (NULL, NULL)", // fails
				"BEGIN; UPDATE counters SET n = n + 1; COMMIT",
				"SELECT nobody FROM nothing",
			} {
				rows, err := db.QueryContext(ctx, query)
				if err == nil {
					defer rows.Close()
				}
				for _, other := range []context.Context{context.Background(), asUser(1), asUser(2)} {
					if _, err := db.ExecContext(other, "UPDATE counters SET n = n + 1"); err != nil {
						t.Errorf("after %q: %v", query, err)
					}
					if err := db.QueryRowContext(other, "SELECT n FROM counters").Scan(new(int)); err != nil {
						t.Errorf("after %q: %v", query, err)
					}
				}
			}
			db.QueryRowContext(ctx, "UPDATE counters SET n = n + 1") // and no Scan
			must(t, onConn(ctx, db, func(c *sql.Conn) error {
				for _, query := range []string{"BEGIN", "UPDATE counters SET n = n + 1", "COMMIT"} {
					rows, err := c.QueryContext(ctx, query)
					if err != nil {
						return fmt.Errorf("%s: %w", query, err)
					}
					defer rows.Close()
				}
				return nil
			}))
			_, err := db.ExecContext(asUser(1), "UPDATE counters SET n = n + 1")
			must(t, err)
		}
	})
}

func onConn(ctx context.Context, db *sql.DB, f func(*sql.Conn) error) error {
	c, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	return errors.Join(f(c), c.Close())
}

// TestForgottenRowsOfServers is the same for a user's lock.
func TestForgottenRowsOfServers(t *testing.T) {
	onEngines(t, "lock_timeout=0", func(t *testing.T, db *sql.DB, c *Connector) {
		queries := []string{
			"INSERT INTO counters VALUES ('5', 5)", "INSERT INTO counters VALUES ('6', 6) RETURNING n",
			"DELETE FROM counters WHERE id > '4' RETURNING id", "CREATE TABLE IF NOT EXISTS other (a INTEGER)",
		}
		switch c.engine {
		case postgres.Engine:
			queries = append(queries, "SELECT n FROM counters FOR UPDATE", "SELECT 1; SELECT 2; SELECT 3", "SELECT 1; UPDATE counters SET n = n / 0",
				"UPDATE counters SET n = n + 1 RETURNING n", "BEGIN; UPDATE counters SET n = 1; COMMIT")
		case mysql.Engine:
			mustExec(t, db, "CREATE PROCEDURE several() BEGIN SELECT 1 AS a UNION SELECT 2; SELECT 'x' AS b; UPDATE counters SET n = n + 1; SELECT NULL AS c; END")
			queries = append(queries, "SELECT n FROM counters FOR UPDATE", "CALL several()")
		}
		for _, query := range queries {
			rows, err := db.QueryContext(asUser(1), query)
			if err == nil {
				defer rows.Close()
			}
			// On a slow machine they may come no earlier than readAheadTime.
			for start := time.Now(); heldBy(t, c, "1") > 0; time.Sleep(time.Millisecond) {
				if time.Since(start) > 10*time.Second {
					t.Fatalf("the lock is not given up after %q", query)
				}
			}
			if _, err := db.ExecContext(asUser(1), "UPDATE counters SET n = n + 1"); err != nil {
				t.Errorf("after %q: %v", query, err)
			}
		}
	})
}

// transcripts are ways of a program to go through rows, and tell all that is to be seen.
var transcripts = map[string]func(rows *sql.Rows) []string{
	"all": func(rows *sql.Rows) (seen []string) {
		for {
			seen = append(seen, describeSet(rows))
			for rows.Next() {
				seen = append(seen, describeRow(rows))
			}
			seen = append(seen, fmt.Sprint("error: ", rows.Err()))
			if !rows.NextResultSet() {
				return append(seen, fmt.Sprint("error: ", rows.Err()), fmt.Sprint("close: ", rows.Close()))
			}
		}
	},
	"one of each set": func(rows *sql.Rows) (seen []string) {
		for {
			if rows.Next() {
				seen = append(seen, describeRow(rows))
			}
			if !rows.NextResultSet() {
				return append(seen, fmt.Sprint("error: ", rows.Err()), fmt.Sprint("close: ", rows.Close()))
			}
			seen = append(seen, describeSet(rows))
		}
	},
	"no row": func(rows *sql.Rows) []string {
		return []string{describeSet(rows), fmt.Sprint("close: ", rows.Close()), fmt.Sprint("error: ", rows.Err())}
	},
}

func describeSet(rows *sql.Rows) string {
	names, err := rows.Columns()
	s := fmt.Sprint("columns ", names, " ", err)
	types, err := rows.ColumnTypes()
	for _, ct := range types {
		length, hasLength := ct.Length()
		nullable, knows := ct.Nullable()
		precision, scale, decimal := ct.DecimalSize()
		s += fmt.Sprint("; ", ct.Name(), " ", ct.DatabaseTypeName(), " ", ct.ScanType(), length, hasLength, nullable, knows, precision, scale, decimal)
	}
	return fmt.Sprint(s, " ", err)
}

func describeRow(rows *sql.Rows) string {
	names, _ := rows.Columns()
	values, pointers := make([]any, len(names)), make([]any, len(names))
	for i := range values {
		pointers[i] = &values[i]
	}
	err := rows.Scan(pointers...)
	return fmt.Sprintf("row %#v %v", values, err)
}

// TestReadAheadIsNotSeen: the rows of a statement that does more than to read are those of the
// bare driver, with their errors and result sets where they come there.
func TestReadAheadIsNotSeen(t *testing.T) {
	queries := map[string][]string{
		"sqlite": {
			"INSERT INTO t VALUES (7, 'seven', NULL), (8, NULL, x'00') RETURNING a, b, c, a + 0.5 AS d",
			"UPDATE t SET a = a WHERE a / (3 - a) IS NOT NULL RETURNING a, abs(CASE a WHEN 3 THEN -9223372036854775808 ELSE a END) AS b",
			"INSERT INTO t VALUES (9, 'nine', NULL)", "INSERT INTO t VALUES (1, 'again', NULL)", "PRAGMA table_info(t)",
			"SELECT a FROM t; SELECT b, c FROM t", "INSERT INTO t VALUES (10, '', ''); SELECT b, c FROM t", "", "PRAGMA journal_mode",
		},
		"postgres": {
			"INSERT INTO t VALUES (7, 'seven', NULL), (8, NULL, '\\x00') RETURNING a, b, c, a + 0.5 AS d",
			"SELECT a, b, c FROM t FOR UPDATE", "INSERT INTO t VALUES (1, 'again', NULL)",
			"SELECT a, 6 / (3 - a) AS q FROM t ORDER BY a FOR UPDATE",
			"SELECT a FROM t; SELECT b, c FROM t; UPDATE t SET b = 'x' RETURNING b; DELETE FROM t; SELECT 1 / 0; SELECT 3",
			"SELECT a FROM t; SELECT b, c FROM t", "UPDATE t SET a = a; SELECT 5 AS five",
		},
		"mysql": {
			"INSERT INTO t VALUES (7, 'seven', NULL), (8, NULL, x'00') RETURNING a, b, c, a + 0.5 AS d",
			"SELECT a, b, c FROM t FOR UPDATE", "INSERT INTO t VALUES (1, 'again', NULL)", "CALL several()", "CALL failing()", "INSERT INTO t VALUES (9, 'nine', NULL)",
		},
	}
	for _, e := range testedEngines {
		t.Run(e.name, func(t *testing.T) {
			testdb.NoLeaks(t)
			name, dsn := e.dsn(t)
			bare, err := sql.Open(name, dsn)
			must(t, err)
			defer bare.Close()
			ours, err := sql.Open("dblocker", name+":"+dsn)
			must(t, err)
			defer ours.Close()
			for _, query := range readAheadTables(e.name) {
				mustExec(t, ours, query)
			}
			for _, query := range queries[e.name] {
				for way, transcript := range transcripts {
					for _, prepared := range []bool{false, true} {
						if prepared && query == "" {
							continue // mattn's driver crashes
						}
						play := func(db *sql.DB) (seen []string) {
							mustExec(t, db, "DELETE FROM t")
							mustExec(t, db, "INSERT INTO t VALUES (1, 'one', NULL), (2, 'two', 'b'), (3, 'three', '')")
							rows, err := queryIn(asUser(1), db, query, prepared)
							if err != nil {
								return []string{fmt.Sprint("query: ", err)}
							}
							return transcript(rows)
						}
						want, got := play(bare), play(ours)
						if !reflect.DeepEqual(got, want) {
							t.Errorf("%s (prepared: %v), read %s:\n got %s\nwant %s", query, prepared, way, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
						}
					}
				}
			}
		})
	}
}

func queryIn(ctx context.Context, db *sql.DB, query string, prepared bool) (*sql.Rows, error) {
	if !prepared {
		return db.QueryContext(ctx, query)
	}
	stmt, err := db.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer stmt.Close()
	return stmt.QueryContext(ctx)
}

func readAheadTables(engine string) []string {
	switch engine {
	case "postgres":
		return []string{"CREATE TABLE t (a INTEGER PRIMARY KEY, b VARCHAR(20), c BYTEA)"}
	case "mysql":
		return []string{
			"CREATE TABLE t (a INTEGER PRIMARY KEY, b VARCHAR(20), c BLOB)",
			"CREATE PROCEDURE several() BEGIN SELECT a, b FROM t; SELECT c FROM t; UPDATE t SET b = 'x'; SELECT a FROM t WHERE a > 5; END",
			"CREATE PROCEDURE failing() BEGIN SELECT a, b FROM t; SELECT nobody FROM nothing; SELECT 3; END",
		}
	}
	return []string{"CREATE TABLE t (a INTEGER PRIMARY KEY, b VARCHAR(20), c BLOB)"}
}

// A rowStub is a stub whose queries return what rows says. It is an error to use a
// connection for two things at once.
type rowStub struct {
	stub
	t    testing.TB
	rows func(query string) *scriptRows
}

func (s *rowStub) Connect(ctx context.Context) (driver.Conn, error) {
	ci, err := s.stub.Connect(ctx)
	return &rowStubConn{stubConn: ci.(*stubConn), s: s}, err
}

type rowStubConn struct {
	*stubConn
	s    *rowStub
	busy atomic.Bool
}

// use is deferred.
func (c *rowStubConn) use() func() {
	if !c.busy.CompareAndSwap(false, true) {
		c.s.t.Error("a connection was used for two things at once")
	}
	return func() { c.busy.Store(false) }
}

func (c *rowStubConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	defer c.use()()
	return c.stubConn.ExecContext(ctx, query, args)
}

func (c *rowStubConn) QueryContext(ctx context.Context, query string, _ []driver.NamedValue) (driver.Rows, error) {
	defer c.use()()
	if err := c.stubConn.s.call(ctx, query); err != nil {
		return nil, err
	}
	r := c.s.rows(query)
	r.conn, r.ctx = c, ctx
	return r, nil
}

// scriptRows return the numbers from 1 to n. They wait before each for as long as wait says,
// or until the context ends, and fail instead of the row fails.
type scriptRows struct {
	n, fails int
	wait     func(row int) time.Duration

	more     *scriptRows // the next result set; nil if there is none
	moreWait time.Duration

	conn   *rowStubConn
	ctx    context.Context
	row    int
	buffer [1]byte
}

func (r *scriptRows) HasNextResultSet() bool { return r.more != nil }
func (r *scriptRows) NextResultSet() error {
	if r.more == nil {
		return io.EOF
	}
	defer r.conn.use()()
	time.Sleep(r.moreWait)
	more := *r.more
	more.conn, more.ctx = r.conn, r.ctx
	*r = more
	return nil
}

var errScript = errors.New("the row failed")

func (r *scriptRows) Columns() []string { return []string{"n", "b"} }
func (r *scriptRows) Close() error      { defer r.conn.use()(); return nil }
func (r *scriptRows) Next(row []driver.Value) error {
	defer r.conn.use()()
	if r.row == r.n {
		return io.EOF
	}
	r.row++
	if r.wait != nil {
		select {
		case <-time.After(r.wait(r.row)):
		case <-r.ctx.Done():
			return r.ctx.Err()
		}
	}
	if r.row == r.fails {
		return errScript
	}
	r.buffer[0] = byte(r.row)
	row[0], row[1] = int64(r.row), r.buffer[:]
	return nil
}

// readNumbers reads rows to their end, and fails the test if they are not the numbers up to n.
func readNumbers(t testing.TB, rows *sql.Rows, from, n int) {
	t.Helper()
	for i := from; i <= n; i++ {
		var got int
		var b sql.RawBytes
		if !rows.Next() {
			t.Fatalf("row %d is missing: %v", i, rows.Err())
		}
		must(t, rows.Scan(&got, &b))
		if got != i || len(b) != 1 || b[0] != byte(i) {
			t.Fatalf("row %d is %d with %v", i, got, b)
		}
	}
}

// TestReadAheadFromSlowServer: a Query that is no read waits 100 ms for its rows. What has come by
// then the program gets at once, and the rest as it comes.
func TestReadAheadFromSlowServer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		slow := func(row int) time.Duration {
			if row == 3 {
				return time.Minute
			}
			return time.Millisecond
		}
		s := &rowStub{t: t, rows: func(string) *scriptRows { return &scriptRows{n: 4, wait: slow} }}
		db := openStub(t, s)
		start := time.Now()
		rows, err := db.QueryContext(asUser(1), "EXPERIMENTAL CHANGEFEED FOR t")
		must(t, err)
		if took := time.Since(start); took != readAheadTime {
			t.Errorf("Query took %v, want %v", took, readAheadTime)
		}
		if _, err := rows.ColumnTypes(); err != nil {
			t.Error(err)
		}
		readNumbers(t, rows, 1, 2)
		if took := time.Since(start); took != readAheadTime {
			t.Errorf("the first two rows came after %v, want %v", took, readAheadTime)
		}
		if isFree(t, db, 1) {
			t.Error("the lock was given up before the rows have ended")
		}
		readNumbers(t, rows, 3, 4)
		if rows.Next() || rows.Err() != nil {
			t.Errorf("after the last row: %v", rows.Err())
		}
		must(t, rows.Close())
		if took := time.Since(start); took < time.Minute || took > time.Minute+time.Second {
			t.Errorf("the rows took %v, want a minute", took)
		}
		if !isFree(t, db, 1) {
			t.Error("the lock is not free")
		}
	})
}

// TestSlowResultSetHoldsUpNoOther: what is in memory the program gets at once, also if the next
// result set takes its time.
func TestSlowResultSetHoldsUpNoOther(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := &rowStub{t: t, rows: func(string) *scriptRows {
			return &scriptRows{n: 2, moreWait: time.Minute, more: &scriptRows{n: 3}}
		}}
		db := openStub(t, s)
		start := time.Now()
		rows, err := db.QueryContext(asUser(1), "EXPERIMENTAL several sets")
		must(t, err)
		if _, err := rows.ColumnTypes(); err != nil {
			t.Error(err)
		}
		readNumbers(t, rows, 1, 2)
		if rows.Next() || rows.Err() != nil {
			t.Errorf("after the last row: %v", rows.Err())
		}
		if took := time.Since(start); took != readAheadTime {
			t.Errorf("the first result set took %v, want %v", took, readAheadTime)
		}
		if !rows.NextResultSet() {
			t.Errorf("no second result set: %v", rows.Err())
		}
		readNumbers(t, rows, 1, 3)
		if rows.Next() || rows.NextResultSet() || rows.Err() != nil {
			t.Errorf("after the last row: %v", rows.Err())
		}
		must(t, rows.Close())
	})
}

// TestSlowRowsEndWithTheirContext, be it that a fill waits for one, and so does another call on
// their connection.
func TestSlowRowsEndWithTheirContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := &rowStub{t: t, rows: func(string) *scriptRows {
			return &scriptRows{n: 4, wait: func(int) time.Duration { return time.Hour }}
		}}
		db := openStub(t, s)
		c, err := db.Conn(context.Background())
		must(t, err)
		ctx, cancel := context.WithTimeout(asUser(1), time.Minute)
		defer cancel()
		start := time.Now()
		rows, err := c.QueryContext(ctx, "EXPERIMENTAL CHANGEFEED FOR t")
		must(t, err)
		hasty, cancel := context.WithTimeout(asUser(1), time.Second)
		defer cancel()
		if _, err := c.ExecContext(hasty, "UPDATE t SET v = 1"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a call beside a row that does not come: %v", err)
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("the call with a context of a second took %v", took)
		}
		if rows.Next() || !errors.Is(rows.Err(), context.DeadlineExceeded) {
			t.Errorf("got %v, want the end of the context", rows.Err())
		}
		if took := time.Since(start); took != time.Minute {
			t.Errorf("the rows ended after %v, want a minute", took)
		}
		must(t, rows.Close())
		_, err = c.ExecContext(asUser(1), "UPDATE t SET v = 1")
		must(t, err)
		must(t, c.Close())
	})
}

// TestReadAheadFails: the error of the third row comes with the third row.
func TestReadAheadFails(t *testing.T) {
	s := &rowStub{t: t, rows: func(string) *scriptRows { return &scriptRows{n: 4, fails: 3} }}
	db := openStub(t, s)
	rows, err := db.QueryContext(asUser(1), "UPDATE t SET v = 1 RETURNING v")
	must(t, err)
	waitFor(t, func() bool { return isFree(t, db, 1) })
	readNumbers(t, rows, 1, 2)
	if rows.Next() || rows.Err() != errScript {
		t.Errorf("got %v, want the error of the driver itself", rows.Err())
	}
	must(t, rows.Close())
}

// TestReadAheadKeepsToItsLimits: what does not fit stays with the driver, and the rows keep
// their lock.
func TestReadAheadKeepsToItsLimits(t *testing.T) {
	for _, option := range []Option{SpillLimit(200), SpillTotal(200)} {
		s := &rowStub{t: t, rows: func(string) *scriptRows { return &scriptRows{n: 100} }}
		c, err := NewConnector(s, option)
		must(t, err)
		db := sql.OpenDB(c)
		rows, err := db.QueryContext(asUser(1), "UPDATE t SET v = 1 RETURNING v")
		must(t, err)
		if n := c.rows.InMemory.Load(); n < 200 || n > 300 {
			t.Errorf("%d bytes are in memory", n)
		}
		if isFree(t, db, 1) {
			t.Error("the lock was given up before the rows have ended")
		}
		readNumbers(t, rows, 1, 100)
		must(t, rows.Close())
		if n := c.rows.InMemory.Load(); n != 0 {
			t.Errorf("%d bytes count as in memory when all is closed", n)
		}
		must(t, db.Close())
	}
}

// TestReadAheadPanics: the program sees a panic of the driver where it asks for the row.
func TestReadAheadPanics(t *testing.T) {
	s := &rowStub{t: t, rows: func(string) *scriptRows {
		return &scriptRows{n: 4, wait: func(row int) time.Duration {
			if row == 2 {
				panic("row 2")
			}
			return 0
		}}
	}}
	db := openStub(t, s)
	rows, err := db.QueryContext(asUser(1), "UPDATE t SET v = 1 RETURNING v")
	must(t, err)
	readNumbers(t, rows, 1, 1)
	func() {
		defer func() {
			if p := recover(); p != "row 2" {
				t.Errorf("got the panic %v, want that of row 2", p)
			}
		}()
		rows.Next()
	}()
	must(t, rows.Close())
	if !isFree(t, db, 1) {
		t.Error("the lock is not free")
	}
}

// TestRowsMakeWay: rows that a program has open, and works on slowly or has forgotten, are read
// into memory when somebody has waited for them for a second. The program notices nothing.
func TestRowsMakeWay(t *testing.T) {
	key := func(user any) context.Context { return context.WithValue(context.Background(), UserKey, user) }
	for name, ctx := range map[string]context.Context{"WithUser": asUser(1), "UserKey": key(1)} {
		for _, fails := range []int{0, 50} {
			t.Run(fmt.Sprint(name, " fails ", fails), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					s := &rowStub{t: t, rows: func(string) *scriptRows { return &scriptRows{n: 100, fails: fails} }}
					c, err := NewConnector(s)
					must(t, err)
					db := sql.OpenDB(c)
					defer db.Close()
					rows, err := db.QueryContext(ctx, "SELECT n, b FROM t")
					must(t, err)
					rows.Next()
					var b sql.RawBytes
					must(t, rows.Scan(new(int), &b))
					start := time.Now()
					for range 3 {
						_, err = db.ExecContext(asUser(1), "UPDATE t SET v = 1")
						must(t, err)
					}
					if took := time.Since(start); took > 2*time.Second {
						t.Errorf("the writes waited %v", took)
					}
					if len(b) != 1 || b[0] != 1 {
						t.Errorf("the row that the program is on has become %v", b)
					}
					synctest.Wait() // they are counted when they have made way
					if n := c.spills.Load(); n != 1 {
						t.Errorf("%d spills are counted, want 1", n)
					}
					if fails > 0 {
						readNumbers(t, rows, 2, fails-1)
					} else {
						readNumbers(t, rows, 2, 100)
					}
					if rows.Next() || (rows.Err() == errScript) != (fails > 0) {
						t.Errorf("after the last row: %v", rows.Err())
					}
					must(t, rows.Close())
				})
			})
		}
	}
}

// TestRowsThatLast: what is in a transaction, or was asked for by WithMode, does not make
// way.
func TestRowsThatLast(t *testing.T) {
	for name, query := range map[string]func(*sql.DB) (end func() error, err error){
		"WithMode": func(db *sql.DB) (func() error, error) {
			rows, err := db.QueryContext(WithMode(asUser(1), Exclusive), "SELECT v FROM t")
			return rows.Close, err
		},
		"Tx": func(db *sql.DB) (func() error, error) {
			tx, err := db.BeginTx(asUser(1), nil)
			if err != nil {
				return nil, err
			}
			_, err = tx.Query("SELECT v FROM t")
			return tx.Rollback, err
		},
		"section": func(db *sql.DB) (func() error, error) {
			ctx, unlock, err := RLock(asUser(1), db)
			if err != nil {
				return nil, err
			}
			rows, err := db.QueryContext(ctx, "SELECT v FROM t")
			return func() error { unlock(); return rows.Close() }, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := &rowStub{t: t, rows: func(string) *scriptRows { return &scriptRows{n: 100} }}
				db := openStub(t, s, LockTimeout(20*time.Second))
				end, err := query(db)
				must(t, err)
				if _, err := db.ExecContext(asUser(1), "UPDATE t SET v = 1"); !errors.Is(err, ErrLockTimeout) {
					t.Errorf("a write beside it: %v", err)
				}
				must(t, end())
			})
		})
	}
}

// TestSlowExportMakesWay: a program that takes 20 ms for each row, from a server that takes its time
// too, keeps a writer waiting for no longer than the server needs.
func TestSlowExportMakesWay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := &rowStub{t: t, rows: func(string) *scriptRows {
			return &scriptRows{n: 1000, wait: func(int) time.Duration { return time.Millisecond }}
		}}
		db := openStub(t, s)
		rows, err := db.QueryContext(asUser(1), "SELECT n, b FROM t")
		must(t, err)
		done := make(chan time.Duration, 1)
		start := time.Now()
		go func() {
			if _, err := db.ExecContext(asUser(1), "UPDATE t SET v = 1"); err != nil {
				t.Error(err)
			}
			done <- time.Since(start)
		}()
		for i := 1; i <= 1000; i++ {
			readNumbers(t, rows, i, i)
			time.Sleep(20 * time.Millisecond)
		}
		must(t, rows.Close())
		if took := <-done; took > 4*time.Second {
			t.Errorf("the writer waited %v", took)
		}
	})
}

// TestSpillLeavesOthersAlone: rows on a sql.Conn make way for others, and for a write of their
// owner elsewhere, while the program goes on with that connection. The driver is asked for one
// thing at a time.
func TestSpillLeavesOthersAlone(t *testing.T) {
	s := &rowStub{t: t, rows: func(string) *scriptRows { return &scriptRows{n: 500} }}
	s.run = func(_ context.Context, query string) error {
		if query == "SET v = 1" {
			time.Sleep(time.Millisecond)
		}
		return nil
	}
	db := openStub(t, s)
	ctx := asUser(1)
	c, err := db.Conn(ctx)
	must(t, err)
	for range 3 {
		rows, err := c.QueryContext(ctx, "SELECT n, b FROM t")
		must(t, err)
		untagged, err := c.QueryContext(context.Background(), "SELECT n, b FROM t")
		must(t, err)
		stranger := asUser(1)
		theirs, err := db.QueryContext(stranger, "SELECT n, b FROM t")
		must(t, err)
		var wg sync.WaitGroup
		stop := make(chan struct{})
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				untagged.Next()
				if _, err := c.ExecContext(context.Background(), "SET v = 1"); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Millisecond)
			}
		})
		var writes sync.WaitGroup
		for _, ctx := range []context.Context{ctx, stranger} {
			writes.Go(func() {
				if _, err := db.ExecContext(ctx, "UPDATE t SET v = 1"); err != nil {
					t.Error(err)
				}
			})
		}
		writes.Wait()
		close(stop)
		wg.Wait()
		readNumbers(t, rows, 1, 500)
		readNumbers(t, theirs, 1, 500)
		must(t, errors.Join(rows.Close(), theirs.Close(), untagged.Close()))
	}
	must(t, c.Close())
}

// TestUntaggedWriteInRows: a program that tags nothing writes in a loop over rows, and leaves
// others open, where SQLite lets nobody write beside a reader.
func TestUntaggedWriteInRows(t *testing.T) {
	onJournals(t, "lock_timeout=1m", func(t *testing.T, db *sql.DB, mode string) {
		leaked, err := db.Query("SELECT n FROM counters")
		must(t, err)
		defer leaked.Close()
		rows, err := db.Query("SELECT id FROM counters")
		must(t, err)
		start, n := time.Now(), 0
		for rows.Next() {
			var id string
			must(t, rows.Scan(&id))
			_, err := db.Exec("UPDATE counters SET n = n + 1 WHERE id = ?", id)
			must(t, err)
			n++
		}
		must(t, errors.Join(rows.Err(), rows.Close()))
		if took := time.Since(start); n != 4 || took > 20*time.Second {
			t.Errorf("%d writes in %v", n, took)
		}
	})
}

// TestRowsOfSectionsMakeWayAtTheGate: what rows in a section have of their own does not last as the
// section does.
func TestRowsOfSectionsMakeWayAtTheGate(t *testing.T) {
	onJournals(t, "lock_timeout=1m", func(t *testing.T, db *sql.DB, mode string) {
		for name, begin := range map[string]func(context.Context) (context.Context, func(), error){
			"section": func(ctx context.Context) (context.Context, func(), error) { return RLock(ctx, db) },
			"pinned":  func(ctx context.Context) (context.Context, func(), error) { return RLock(ctx, db, Pin()) },
		} {
			ctx, unlock, err := begin(asUser(1))
			must(t, err)
			rows, err := db.QueryContext(ctx, "SELECT id FROM counters ORDER BY id")
			must(t, err)
			rows.Next()
			for _, other := range []context.Context{asUser(2), context.Background()} {
				start := time.Now()
				_, err = db.ExecContext(other, "UPDATE counters SET n = n + 1")
				if took := time.Since(start); err != nil || took > 20*time.Second {
					t.Errorf("%s: a write beside its rows: %v after %v", name, err, took)
				}
			}
			n := 1
			for rows.Next() {
				n++
			}
			if n != 4 || rows.Err() != nil {
				t.Errorf("%s: %d rows and %v", name, n, rows.Err())
			}
			must(t, rows.Close())
			unlock()
		}
	})
}

// TestSlowRowsOfServers: a set that comes slowly, of a statement that is no read, keeps its lock no
// longer than it takes, if the program has forgotten it.
func TestSlowRowsOfServers(t *testing.T) {
	onEngines(t, "lock_timeout=1m", func(t *testing.T, db *sql.DB, c *Connector) {
		query := "SELECT i, SLEEP(0.1) FROM (SELECT 1 AS i UNION SELECT 2 UNION SELECT 3) AS s FOR UPDATE"
		switch c.engine {
		case sqlite.Engine:
			t.Skip("SQLite has done all of it at once")
		case postgres.Engine:
			// A set of this size is sent in several pieces, each when it is full.
			query = "SELECT repeat('x', 5000) || i, pg_sleep(0.1) IS NULL FROM generate_series(1, 4) AS i; SELECT 1"
		}
		ctx := asUser(1)
		rows, err := db.QueryContext(ctx, query)
		must(t, err)
		_, err = db.ExecContext(asUser(1), "UPDATE counters SET n = n + 1")
		must(t, err)
		if n := len(holdsOf(t, c)); n != 0 {
			t.Errorf("%d locks are held", n)
		}
		n := 0
		for rows.Next() {
			n++
		}
		must(t, errors.Join(rows.Err(), rows.Close()))
		if n != 3 && n != 4 {
			t.Errorf("%d rows", n)
		}
	})
}
