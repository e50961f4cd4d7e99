package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/lib/pq"

	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// openKept opens a handle with one server connection.
func openKept(t *testing.T, driver, options, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("dblocker", driver+"?max_open_conns=1"+options+":"+dsn)
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	return db
}

func openBare(t *testing.T, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	must(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

type querying interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
	QueryRowContext(context.Context, string, ...any) *sql.Row
}

func mustRun(t *testing.T, q querying, query string, args ...any) {
	t.Helper()
	if _, err := q.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// value returns the only value that a query finds, as text.
func value(t *testing.T, q querying, query string, args ...any) (v string) {
	t.Helper()
	if err := q.QueryRowContext(t.Context(), query, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

// placeholder is the first of a statement.
var placeholder = map[string]string{"sqlite3": "?", "postgres": "$1", "mysql": "?"}

// TestSchemaChangesOfOtherProcesses: a statement that is kept when another program
// changes its table is prepared anew, and the program notices nothing.
func TestSchemaChangesOfOtherProcesses(t *testing.T) {
	for _, e := range testedEngines {
		t.Run(e.name, func(t *testing.T) {
			testdb.NoLeaks(t)
			driver, dsn := e.dsn(t)
			db, err := sql.Open("dblocker", driver+":"+dsn)
			must(t, err)
			defer db.Close()
			mustRun(t, db, "CREATE TABLE changing (id INTEGER, v INTEGER)")
			mustRun(t, db, "INSERT INTO changing VALUES (1, 1)")
			other := openBare(t, driver, dsn)
			var queries [4]atomic.Int64
			var done atomic.Bool
			var wg sync.WaitGroup
			for i := range queries {
				wg.Go(func() {
					for !done.Load() {
						if err := readOne(t.Context(), db, "SELECT * FROM changing WHERE id = "+placeholder[driver]); err != nil {
							t.Errorf("query %d: %v", queries[i].Load(), err)
						}
						queries[i].Add(1)
					}
				})
			}
			defer wg.Wait()
			defer done.Store(true)
			for i := range 10 {
				// The bare drivers fail if there are two changes within a query.
				for reader := range queries {
					before := queries[reader].Load()
					waitFor(t, func() bool { return queries[reader].Load() > before+10 })
				}
				mustRun(t, other, fmt.Sprintf("ALTER TABLE changing ADD COLUMN more%d INTEGER", i))
			}
		})
	}
}

func readOne(ctx context.Context, db *sql.DB, query string) error {
	rows, err := db.QueryContext(ctx, query, 1)
	if err != nil {
		return err
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		n++
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if n != 1 {
		return fmt.Errorf("%d rows, want 1", n)
	}
	return nil
}

// TestSessionForgetsStatements: after a statement that ends or changes what is
// prepared, the kept ones are prepared anew, also in a transaction, where their
// error would end it.
func TestSessionForgetsStatements(t *testing.T) {
	dsn := testdb.Postgres(t).NewDatabase(t).DSN()
	db := openKept(t, "postgres", "", dsn)
	for i, columns := range []string{"v INT", "v TEXT"} {
		mustRun(t, db, fmt.Sprintf("CREATE SCHEMA s%d", i))
		mustRun(t, db, fmt.Sprintf("CREATE TABLE s%d.t (%s)", i, columns))
		mustRun(t, db, fmt.Sprintf("INSERT INTO s%d.t VALUES (%d)", i, i))
	}
	const query = "SELECT v FROM t WHERE $1"
	for _, change := range []string{"DISCARD ALL", "DEALLOCATE ALL", "RESET ALL", "SELECT set_config('search_path', 's1', false)", "SET search_path TO s1", "SET SCHEMA 's1'"} {
		t.Run(change, func(t *testing.T) {
			mustRun(t, db, "SET search_path TO s0")
			for range 3 {
				value(t, db, query, true)
			}
			mustRun(t, db, change)
			if strings.Contains(change, "ALL") {
				mustRun(t, db, "SET search_path TO s1")
			}
			tx, err := db.BeginTx(t.Context(), nil)
			must(t, err)
			if got := value(t, tx, query, true); got != "1" {
				t.Errorf("got %q, want the value of the new search path", got)
			}
			must(t, tx.Commit())
		})
	}
}

// TestLostStatement: of statements that were ended where we do not see it, one is
// sent again, and in a transaction the error says what may be the matter.
func TestLostStatement(t *testing.T) {
	dsn := testdb.Postgres(t).NewDatabase(t).DSN()
	db := openKept(t, "postgres", "", dsn)
	mustRun(t, db, "CREATE TABLE t (a int)")
	mustRun(t, db, "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'DEALLOCATE ALL'; RETURN NEW; END $$")
	mustRun(t, db, "CREATE TRIGGER lose BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION lose()")
	const query, lose = "SELECT $1::text", "INSERT INTO t VALUES (1)"
	for range 3 {
		value(t, db, query, "x")
	}
	mustRun(t, db, lose)
	if got := value(t, db, query, "x"); got != "x" {
		t.Errorf("got %q", got)
	}
	for range 3 {
		value(t, db, query, "x")
	}
	tx, err := db.BeginTx(t.Context(), nil)
	must(t, err)
	defer tx.Rollback()
	mustRun(t, tx, lose)
	err = tx.QueryRow(query, "x").Scan(new(string))
	var pqErr *pq.Error
	if !errors.As(err, &pqErr) || !strings.Contains(err.Error(), "stmt_cache=0") {
		t.Errorf("got %v, want lib/pq's error with the advice of stmt_cache=0", err)
	}
}

// TestOwnStatementsFailAsOnTheBareDriver: an error about a statement that the program
// has prepared in SQL is not explained by what we keep.
func TestOwnStatementsFailAsOnTheBareDriver(t *testing.T) {
	db := openKept(t, "postgres", "", testdb.Postgres(t).NewDatabase(t).DSN())
	for _, query := range []string{"EXECUTE missing", "DEALLOCATE missing"} {
		tx, err := db.BeginTx(t.Context(), nil)
		must(t, err)
		_, err = tx.Exec(query)
		if _, bare := err.(*pq.Error); !bare {
			t.Errorf("%s: got %T %v, want lib/pq's own error", query, err, err)
		}
		must(t, tx.Rollback())
	}
}

// TestOneOffTextsLeaveNothing on the server; those that come again do.
func TestOneOffTextsLeaveNothing(t *testing.T) {
	dsn := testdb.Postgres(t).NewDatabase(t).DSN()
	db := openKept(t, "postgres", "", dsn)
	for i := range 20 {
		value(t, db, fmt.Sprintf("SELECT %d + $1::int", i), 1)
	}
	const count = "SELECT count(*) FROM pg_prepared_statements"
	if n := value(t, db, count); n != "0" {
		t.Errorf("%s statements are left of 20 that were sent once", n)
	}
	for range 3 {
		value(t, db, "SELECT $1::int", 1)
	}
	if n := value(t, db, count); n != "1" {
		t.Errorf("%s statements are kept, want the one that was sent three times", n)
	}
}

// TestServerFullOfStatements: where the server allows no more of them, statements
// go as on the bare driver.
func TestServerFullOfStatements(t *testing.T) {
	s := testdb.PrivateMySQL(t)
	dsn := s.NewDatabase(t).DSN()
	admin := openBare(t, "mysql", dsn)
	// Room for what a statement needs that is prepared and closed at once.
	mustRun(t, admin, "SET GLOBAL max_prepared_stmt_count = 3")
	db := openKept(t, "mysql", "", dsn)
	for round := range 4 {
		for i := range 10 {
			if got, want := value(t, db, fmt.Sprintf("SELECT %d + ?", i), 1), fmt.Sprint(i+1); got != want {
				t.Errorf("round %d: got %s, want %s", round, got, want)
			}
		}
	}
}

// TestStatementsFollowTheDatabase: on MySQL a statement stays with the database that
// it was prepared in.
func TestStatementsFollowTheDatabase(t *testing.T) {
	s := testdb.MySQL(t)
	a, b := s.NewDatabase(t), s.NewDatabase(t)
	db := openKept(t, "mysql", "", a.DSN())
	for i, d := range []*testdb.Database{a, b} {
		mustRun(t, db, "USE "+d.Name)
		mustRun(t, db, "CREATE TABLE t (v INT)")
		mustRun(t, db, "INSERT INTO t VALUES (?)", i)
		for range 3 {
			if got := value(t, db, "SELECT v FROM t WHERE ?", true); got != fmt.Sprint(i) {
				t.Errorf("in database %d: got %s", i, got)
			}
		}
	}
}

// TestPgBouncer: behind a pooler that lends a server connection for one transaction
// at a time, statements are not kept, whether the program has said so or not.
func TestPgBouncer(t *testing.T) {
	server := testdb.Postgres(t)
	d := server.NewDatabase(t)
	bouncer := testdb.PrivatePgBouncer(t, server)
	// lib/pq itself needs binary_parameters there: else it prepares a statement in
	// one transaction and uses it in the next.
	for _, driver := range []string{"postgres?stmt_cache=0", "postgres"} {
		t.Run(driver, func(t *testing.T) {
			db, err := sql.Open("dblocker", driver+":"+bouncer.DSN(d)+" binary_parameters=yes")
			must(t, err)
			defer db.Close()
			mustRun(t, db, "CREATE TABLE IF NOT EXISTS counters (id INT PRIMARY KEY, n INT)")
			mustRun(t, db, "INSERT INTO counters VALUES (1, 0) ON CONFLICT (id) DO UPDATE SET n = 0")
			var wg sync.WaitGroup
			for user := range 8 {
				wg.Go(func() {
					ctx := asUser(user)
					for range 20 {
						if _, err := db.ExecContext(ctx, "UPDATE counters SET n = n + $1 WHERE id = $2", 1, 1); err != nil {
							t.Error(err)
						}
						if err := db.QueryRowContext(ctx, "SELECT n FROM counters WHERE id = $1", 1).Scan(new(int)); err != nil {
							t.Error(err)
						}
						if err := changeInTx(ctx, db); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			if n := value(t, db, "SELECT n FROM counters"); n != "320" {
				t.Errorf("n = %s, want 320", n)
			}
		})
	}
}

func changeInTx(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, "UPDATE counters SET n = n + $1 WHERE id = $2", 1, 1); err != nil {
		return err
	}
	return tx.Commit()
}

// TestPoolerIsNoticed, and statements kept all the same if the program asks for it.
func TestPoolerIsNoticed(t *testing.T) {
	cluster := testdb.Postgres(t)
	d := cluster.NewDatabase(t)
	bouncer := testdb.PrivatePgBouncer(t, cluster)
	for _, test := range []struct {
		options string
		dsn     string
		keeps   int
		warns   bool
	}{
		{"", d.DSN(), server.DefaultStmtCache, false},
		{"", bouncer.DSN(d), 0, true},
		{"?stmt_cache=32", bouncer.DSN(d), 32, false},
	} {
		var log strings.Builder
		c, err := (&Driver{opts: []Option{Logger(textLogger(&log))}}).OpenConnector("postgres" + test.options + ":" + test.dsn)
		must(t, err)
		db := sql.OpenDB(c)
		must(t, db.Ping())
		if keeps := keeps(t, c); keeps != test.keeps || strings.Contains(log.String(), "stmt_cache=0") != test.warns {
			t.Errorf("options %q: keeps %d statements, logs %q; want %d, a warning: %v", test.options, keeps, log.String(), test.keeps, test.warns)
		}
		must(t, db.Close())
	}
}

// keeps returns how many statements a server connection keeps.
func keeps(t *testing.T, handle any) (size int) {
	t.Helper()
	onServerConn(t, handle, func(sc *server.Conn) { size = sc.Cached().Size })
	return size
}
