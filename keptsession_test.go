package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	mysqldriver "github.com/go-sql-driver/mysql"
	"github.com/lib/pq"

	"github.com/calmdocs/dblocker/internal/drivers"
	"github.com/calmdocs/dblocker/internal/mysql"
	"github.com/calmdocs/dblocker/internal/postgres"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqlite"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// TestWhatIsKeptOnPostgreSQL: ordinary texts are, and those with a string that the server may
// read in another way the next time are not.
func TestWhatIsKeptOnPostgreSQL(t *testing.T) {
	db := openKept(t, "postgres", "", testdb.Postgres(t).NewDatabase(t).DSN())
	mustRun(t, db, "CREATE TABLE t (at timestamptz, v text, n int)")
	kept := func(text string) string {
		return value(t, db, "SELECT count(*) FROM pg_prepared_statements WHERE statement = '"+strings.ReplaceAll(text, "'", "''")+"'")
	}
	for text, want := range map[string]string{
		"SELECT count(*) FROM t WHERE v = 'active' AND n = $1":                         "1",
		"SELECT count(*) FROM t WHERE at > now() - interval '30 days' AND n <> $1":     "1",
		"SELECT coalesce(max(n), 7) FROM t WHERE v LIKE '%x%' AND n IN ($1, 12345)":    "1",
		"SELECT count(*) FROM t WHERE at >= 'today' AND n = $1":                        "0",
		"SELECT count(*) FROM t WHERE at >= '2024-01-02' AND n = $1":                   "0",
		"WITH i AS (INSERT INTO t VALUES ('now', 'x', $1) RETURNING 1) SELECT 2":       "0",
		"SELECT count(*) FROM t WHERE at > now() - '1 day -2:00'::interval AND n = $1": "0",
	} {
		for range 3 {
			value(t, db, text, 1)
		}
		if got := kept(text); got != want {
			t.Errorf("%s: %s statements are kept, want %s", text, got, want)
		}
	}
	// One that the program has prepared is kept from one use to the next, as on the bare driver, but not for
	// the next of its text, if the time has a say in it.
	for text, want := range map[string]string{"SELECT count(*) FROM t WHERE at > '2024-01-02' AND n <> $1": "1", "SELECT 'now' < $1::text": "0"} {
		s, err := db.Prepare(text)
		must(t, err)
		must(t, s.QueryRow(1).Scan(new(any)))
		must(t, s.Close())
		if got := kept(text); got != want {
			t.Errorf("%s, prepared by the program: %s statements are kept, want %s", text, got, want)
		}
	}
}

// TestOwnSettingsCostNoStatement: a setting that only the program knows, as the tenant of a request, leaves what is
// kept as it is, as long as the server makes a plan for each execution.
func TestOwnSettingsCostNoStatement(t *testing.T) {
	db := openKept(t, "postgres", "", testdb.Postgres(t).NewDatabase(t).DSN())
	const query = "SELECT prepare_time FROM pg_prepared_statements WHERE $1"
	value(t, db, "SELECT set_config('app.tenant', $1, false)", "0")
	request := func(tenant int) string {
		tx, err := db.BeginTx(t.Context(), nil)
		must(t, err)
		defer func() { must(t, tx.Commit()) }()
		value(t, tx, "SELECT set_config('app.tenant', $1, true)", fmt.Sprint(tenant))
		mustRun(t, tx, "SET LOCAL app.login = 'x'")
		var at string
		if err := tx.QueryRow(query, true).Scan(&at); err != nil && err != sql.ErrNoRows {
			t.Fatal(err)
		}
		return at
	}
	for tenant := range 2 {
		request(tenant)
	}
	first := request(3)
	if second := request(4); first != second || first == "" {
		t.Errorf("prepared at %s, and at the next request at %s", first, second)
	}
	for tenant := range 2 * customPlans {
		request(tenant)
	}
	if last := request(1); last == first {
		t.Error("the statement was used so often that its plan may be from another tenant")
	}
}

// TestChangeInTransactionIsExplained: where another program changes the columns of what is kept, PostgreSQL ends the
// transaction that uses it, and the error says what has happened and what to do.
func TestChangeInTransactionIsExplained(t *testing.T) {
	dsn := testdb.Postgres(t).NewDatabase(t).DSN()
	db, other := openKept(t, "postgres", "", dsn), openBare(t, "postgres", dsn)
	mustRun(t, db, "CREATE TABLE t (v int)")
	mustRun(t, db, "INSERT INTO t VALUES (1)")
	const query = "SELECT * FROM t WHERE $1"
	for range 3 {
		value(t, db, query, true)
	}
	mustRun(t, other, "ALTER TABLE t ALTER COLUMN v TYPE text")
	read := func() error {
		tx, err := db.BeginTx(t.Context(), nil)
		must(t, err)
		defer tx.Rollback()
		return tx.QueryRow(query, true).Scan(new(string))
	}
	err := read()
	if pqErr := (*pq.Error)(nil); !errors.As(err, &pqErr) || pqErr.Code != "0A000" || !strings.Contains(err.Error(), "run the transaction again") {
		t.Errorf("got %v, want lib/pq's error with our advice", err)
	}
	must(t, read())
}

// TestSchemaChangeOfHandleWithoutCache: it makes stale what other handles have kept.
func TestSchemaChangeOfHandleWithoutCache(t *testing.T) {
	dsn := testdb.Postgres(t).NewDatabase(t).DSN()
	db, changer := openKept(t, "postgres", "", dsn), openKept(t, "postgres", "&stmt_cache=0", dsn)
	mustRun(t, db, "CREATE TABLE t (v int)")
	mustRun(t, db, "INSERT INTO t VALUES (1)")
	const query = "SELECT * FROM t WHERE $1"
	for i, change := range []string{"ALTER TABLE t ALTER COLUMN v TYPE text", "BEGIN; ALTER TABLE t ALTER COLUMN v TYPE bigint USING 2; COMMIT"} {
		for range 3 {
			value(t, db, query, true)
		}
		mustRun(t, changer, change)
		tx, err := db.BeginTx(t.Context(), nil)
		must(t, err)
		if got := value(t, tx, query, true); got != fmt.Sprint(i+1) {
			t.Errorf("after %s: %s", change, got)
		}
		must(t, tx.Rollback())
	}
}

// TestSchemaChangeInStringThatBegins: a change of the schema by one of several statements, which have begun a transaction,
// is seen by others when that ends, and so is made stale then what they have prepared meanwhile.
func TestSchemaChangeInStringThatBegins(t *testing.T) {
	db, err := sql.Open("dblocker", "postgres:"+testdb.Postgres(t).NewDatabase(t).DSN()+" search_path=a,public")
	must(t, err)
	defer db.Close()
	mustRun(t, db, "CREATE SCHEMA a")
	mustRun(t, db, "CREATE TABLE public.t AS SELECT 1 AS v")
	reader, err := db.Conn(t.Context())
	must(t, err)
	defer reader.Close()
	changer, err := db.Conn(t.Context())
	must(t, err)
	defer changer.Close()
	const query = "SELECT v FROM t WHERE $1"
	mustRun(t, changer, "BEGIN; CREATE TABLE a.t AS SELECT 2 AS v")
	for range 3 {
		value(t, reader, query, true)
	}
	mustRun(t, changer, "COMMIT")
	if got := value(t, reader, query, true); got != "2" {
		t.Errorf("got %s, from the table that stood first before", got)
	}
}

// TestTableOfAnotherProgramEarlierInThePath is not told by the server: it is seen when what is kept has become too old.
func TestTableOfAnotherProgramEarlierInThePath(t *testing.T) {
	dsn := testdb.Postgres(t).NewDatabase(t).DSN() + " search_path=a,public"
	keepsFor := postgres.Engine.KeepsFor
	postgres.Engine.KeepsFor = 50 * time.Millisecond
	defer func() { postgres.Engine.KeepsFor = keepsFor }()
	db, other := openKept(t, "postgres", "", dsn), openBare(t, "postgres", dsn)
	for _, query := range []string{"CREATE SCHEMA a", "CREATE TABLE public.t AS SELECT 1 AS v"} {
		mustRun(t, other, query)
	}
	const query = "SELECT v FROM t WHERE $1"
	for range 3 {
		value(t, db, query, true)
	}
	mustRun(t, other, "CREATE TABLE a.t AS SELECT 2 AS v")
	waitFor(t, func() bool { return value(t, db, query, true) == "2" })
}

// TestStatementsAreKeptForATime, if the dialect says so, and then prepared anew.
func TestStatementsAreKeptForATime(t *testing.T) {
	keepsFor := sqlite.Engine.KeepsFor
	sqlite.Engine.KeepsFor = time.Minute
	defer func() { sqlite.Engine.KeepsFor = keepsFor }()
	bubble(t, func(t *testing.T) {
		p := new(preparing)
		db := openPreparing(t, p, 8)
		for range 12 {
			runAll(t, db, "SELECT a")
			time.Sleep(10 * time.Second)
		}
		if len(p.prepared) != 2 {
			t.Errorf("within two minutes %d were prepared of what is kept for one", len(p.prepared))
		}
	})
}

// TestNothingIsPreparedInVain: where the session is changed for every use of a text, it is not prepared; nor closed.
func TestNothingIsPreparedInVain(t *testing.T) {
	p := new(preparing)
	db := openPreparing(t, p, 8)
	for range 20 {
		_, err := db.Exec("PRAGMA foreign_keys = 1")
		must(t, err)
		runAll(t, db, "SELECT a", "SELECT b")
	}
	if len(p.prepared) != 0 {
		t.Errorf("%d statements were prepared, each for one use", len(p.prepared))
	}
	for range 200 {
		_, err := db.Exec("PRAGMA foreign_keys = 1")
		must(t, err)
		runAll(t, db, "SELECT a", "SELECT a")
	}
	if len(p.prepared) > 15 {
		t.Errorf("%d statements were prepared in 200 rounds, each to become stale at once", len(p.prepared))
	}
	for range 2 << maxInVain {
		runAll(t, db, "SELECT a")
	}
	p.direct = 0
	runAll(t, db, "SELECT a", "SELECT b", "SELECT b", "SELECT b")
	if p.direct != 1 {
		t.Errorf("%d of 4 texts were sent as they are, though the session is no longer changed; want the first of b", p.direct)
	}
}

// TestRawForgetsStatements: what the program does with the inner connection is not known.
func TestRawForgetsStatements(t *testing.T) {
	p := new(preparing)
	db := openPreparing(t, p, 8)
	conn, err := db.Conn(t.Context())
	must(t, err)
	defer conn.Close()
	runAll(t, conn, "SELECT a", "SELECT a", "SELECT a")
	must(t, conn.Raw(func(dc any) error { return dc.(RawConn).Raw(func(any) error { return nil }) }))
	runAll(t, conn, "SELECT a")
	if len(p.closed) != 1 {
		t.Errorf("%d statements were closed after Raw, want the one that was kept", len(p.closed))
	}
}

// TestVersionIsAskedOnce for each connection, however often its limit is changed.
func TestVersionIsAskedOnce(t *testing.T) {
	asked := 0
	s := &stub{run: func(_ context.Context, query string) error {
		if strings.Contains(query, "VERSION()") {
			asked++
		}
		return nil
	}}
	ci, err := s.Connect(t.Context())
	must(t, err)
	sc := server.NewConn(ci, &server.Config{Engine: mysql.Engine})
	for i := range 4 {
		must(t, mysql.Engine.LimitStatements(t.Context(), sc, time.Duration(i)*time.Second))
	}
	must(t, sc.Close())
	if asked != 1 {
		t.Errorf("the version was asked %d times", asked)
	}
}

// TestDriverInternals: what is read of a driver by the names of its fields is still there. If it is not, statements
// are no longer kept, or locks no longer kept for those that lost their connection, without an error.
func TestDriverInternals(t *testing.T) {
	for driverName, check := range map[string]func(t *testing.T, sc *server.Conn){
		"postgres": func(t *testing.T, sc *server.Conn) {
			rows, err := sc.QueryText(t.Context(), "SELECT pg_backend_pid()")
			must(t, err)
			if got := postgres.Process(sc.Inner()); got != rows[0][0] {
				t.Errorf("lib/pq: process %q, want %s", got, rows[0][0])
			}
			mustHaveField[bool](t, drivers.Field(reflect.ValueOf(sc.Inner()), "cfg"), "BinaryParameters")
			mustHaveField[string](t, reflect.ValueOf(new(pq.Error)), "Routine")
			mustHaveField[string](t, reflect.ValueOf(new(pq.Error)), "Where")
		},
		"mysql": func(t *testing.T, sc *server.Conn) {
			mustHaveField[bool](t, drivers.Field(reflect.ValueOf(sc.Inner()), "cfg"), "InterpolateParams")
			mustHaveField[uint16](t, reflect.ValueOf(new(mysqldriver.MySQLError)), "Number")
		},
	} {
		t.Run(driverName, func(t *testing.T) {
			dsn := testdb.Postgres(t).NewDatabase(t).DSN()
			if driverName == "mysql" {
				dsn = testdb.MySQL(t).NewDatabase(t).DSN()
			}
			inner, err := (&Driver{}).OpenConnector(driverName + ":" + dsn)
			must(t, err)
			db := sql.OpenDB(inner)
			defer db.Close()
			must(t, db.Ping())
			onServerConn(t, inner, func(sc *server.Conn) {
				if sc.Session.ID == "" {
					t.Error("the session of a connection is not known")
				}
				if kept := sc.Cached(); kept.KeepFrom != 1 || kept.Size != server.DefaultStmtCache {
					t.Errorf("statements are kept from %d arguments on, and %d of them; want 1 and %d", kept.KeepFrom, kept.Size, server.DefaultStmtCache)
				}
				check(t, sc)
			})
		})
	}
}

func mustHaveField[T any](t *testing.T, v reflect.Value, name string) {
	t.Helper()
	if f := drivers.Field(v, name); !f.IsValid() || f.Type() != reflect.TypeFor[T]() {
		t.Errorf("%v has no field %s of type %v", v.Type(), name, reflect.TypeFor[T]())
	}
}

// TestSettingOfPinnedTransaction: in a pinned section a statement beside a transaction is inside it, and what it sets
// for the transaction ends with that.
func TestSettingOfPinnedTransaction(t *testing.T) {
	db := openKept(t, "postgres", "", testdb.Postgres(t).NewDatabase(t).DSN())
	for _, query := range []string{"CREATE SCHEMA a", "CREATE TABLE t AS SELECT 1 AS v", "CREATE TABLE a.t AS SELECT 'a' AS v"} {
		mustRun(t, db, query)
	}
	ctx, unlock, err := Lock(asUser(1), db, Pin())
	must(t, err)
	defer unlock()
	read := func(set bool) (v string) {
		tx, err := db.BeginTx(ctx, nil)
		must(t, err)
		if set {
			_, err = db.ExecContext(ctx, "SET LOCAL search_path = a")
			must(t, err)
		}
		for range 3 {
			must(t, tx.QueryRow("SELECT v FROM t WHERE $1", true).Scan(&v))
		}
		must(t, tx.Commit())
		return v
	}
	for range 3 {
		if a, one := read(true), read(false); a != "a" || one != "1" {
			t.Errorf("got %s within and %s behind the transaction that has set the path, want a and 1", a, one)
		}
	}
}
