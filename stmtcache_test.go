package dblocker

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
)

// A preparing is a stub that counts what is prepared on it, and what is closed.
type preparing struct {
	stub
	prepared, closed []string // in the order of the calls
	direct           int      // statements that came as text
}

func (p *preparing) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := p.stub.Connect(ctx)
	return &preparingConn{c.(*stubConn), p}, err
}

type preparingConn struct {
	*stubConn
	p *preparing
}

func (c *preparingConn) Prepare(query string) (driver.Stmt, error) {
	c.p.prepared = append(c.p.prepared, query)
	return &preparingStmt{&stubStmt{c.stubConn, query}, c.p}, nil
}

func (c *preparingConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	c.p.direct++
	return c.stubConn.QueryContext(ctx, query, args)
}

func (c *preparingConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	c.p.direct++
	return c.stubConn.ExecContext(ctx, query, args)
}

type preparingStmt struct {
	*stubStmt
	p *preparing
}

func (s *preparingStmt) Close() error {
	s.p.closed = append(s.p.closed, s.query)
	return nil
}

// openPreparing opens a handle of one server connection that keeps size statements,
// texts as well.
func openPreparing(t *testing.T, p *preparing, size int) *sql.DB {
	t.Helper()
	c, err := NewConnector(p, StmtCache(size), Dialect("sqlite"), MaxOpenConns(1))
	must(t, err)
	dialect := *c.engine
	dialect.KeepFrom = func(driver.Conn) int { return 0 }
	c.engine = &dialect
	db := sql.OpenDB(c)
	must(t, db.QueryRow("SELECT first").Scan(new(int))) // with what every connection begins with
	p.direct = 0
	t.Cleanup(func() {
		must(t, db.Close())
		if len(p.prepared) != len(p.closed) {
			t.Errorf("%d statements were prepared and %d closed", len(p.prepared), len(p.closed))
		}
	})
	return db
}

func runAll(t *testing.T, q interface {
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
}, queries ...string) {
	t.Helper()
	for _, query := range queries {
		rows, err := q.QueryContext(t.Context(), query)
		must(t, err)
		for rows.Next() {
		}
		must(t, rows.Close())
	}
}

// TestTextIsPreparedAtItsSecondUse: what is sent once leaves nothing behind.
func TestTextIsPreparedAtItsSecondUse(t *testing.T) {
	p := new(preparing)
	db := openPreparing(t, p, 8)
	runAll(t, db, "SELECT a")
	if len(p.prepared) != 0 {
		t.Errorf("a text that was sent once was prepared")
	}
	runAll(t, db, "SELECT a", "SELECT a", "SELECT a")
	for range 3 {
		_, err := db.Exec("UPDATE a")
		must(t, err)
	}
	if want := []string{"SELECT a", "UPDATE a"}; !slices.Equal(p.prepared, want) || p.direct != 2 {
		t.Errorf("prepared %q and sent %d texts, want %q and 2", p.prepared, p.direct, want)
	}
}

// TestLeastRecentlyUsedMakesWay: the statement that was not used for longest.
func TestLeastRecentlyUsedMakesWay(t *testing.T) {
	p := new(preparing)
	db := openPreparing(t, p, 2)
	runAll(t, db, "SELECT a", "SELECT a", "SELECT b", "SELECT b", "SELECT a")
	for i := 0; len(p.closed) == 0; i++ { // it takes some tries to be let into a full cache
		if i > 2*admitOneOf {
			t.Fatal("nothing is let into a full cache")
		}
		runAll(t, db, "SELECT c")
	}
	if p.closed[0] != "SELECT b" {
		t.Errorf("%q made way, want that of the longest unused, SELECT b", p.closed[0])
	}
	before := len(p.prepared)
	runAll(t, db, "SELECT a", "SELECT c")
	if len(p.prepared) != before {
		t.Errorf("those that were used were not kept: %q", p.prepared)
	}
}

// TestFullCacheIsNotChurned: with more texts than there is room, most are sent as
// they are, instead of replacing each other at every call.
func TestFullCacheIsNotChurned(t *testing.T) {
	p := new(preparing)
	db := openPreparing(t, p, 4)
	const texts, rounds = 12, 40
	for range rounds {
		for i := range texts {
			runAll(t, db, fmt.Sprintf("SELECT %d", i))
		}
	}
	if most := texts*rounds/admitOneOf + texts; len(p.prepared) > most {
		t.Errorf("%d statements were prepared for %d calls, want at most %d", len(p.prepared), texts*rounds, most)
	}
}

// TestKeptStatementIsExclusive: a text whose statement has rows open is sent as it
// is, and a client statement of the same text has one of its own.
func TestKeptStatementIsExclusive(t *testing.T) {
	p := new(preparing)
	db := openPreparing(t, p, 8)
	conn, err := db.Conn(t.Context())
	must(t, err)
	runAll(t, conn, "SELECT a", "SELECT a")
	rows, err := conn.QueryContext(t.Context(), "SELECT a")
	must(t, err)
	p.direct = 0
	runAll(t, conn, "SELECT a")
	if p.direct != 1 {
		t.Error("a statement was used while its rows were open")
	}
	s, err := conn.PrepareContext(t.Context(), "SELECT a")
	must(t, err)
	if len(p.prepared) != 2 {
		t.Errorf("prepared %q, want one for the rows and one for the client statement", p.prepared)
	}
	must(t, s.Close())
	if len(p.closed) != 1 {
		t.Error("the second statement of one text was kept")
	}
	must(t, rows.Close())
	must(t, conn.Close())
}

// TestOustedStatementLivesUntilItsRowsEnd: a change of the schema takes a statement
// out of the cache, but not out of the hands of who reads.
func TestOustedStatementLivesUntilItsRowsEnd(t *testing.T) {
	p := new(preparing)
	db := openPreparing(t, p, 8)
	conn, err := db.Conn(t.Context())
	must(t, err)
	runAll(t, conn, "SELECT a", "SELECT a")
	rows, err := conn.QueryContext(t.Context(), "SELECT a")
	must(t, err)
	_, err = conn.ExecContext(t.Context(), "ALTER TABLE a")
	must(t, err)
	runAll(t, conn, "SELECT a")
	if len(p.closed) != 0 {
		t.Error("a statement was closed under its open rows")
	}
	must(t, rows.Close())
	if len(p.closed) != 1 {
		t.Errorf("after the rows were closed, %d statements were; want the one from before the change", len(p.closed))
	}
	must(t, conn.Close())
}

// TestPreparedStatementIsKept: a client statement does not have its text prepared
// again each time that it is used.
func TestPreparedStatementIsKept(t *testing.T) {
	p := new(preparing)
	db := openPreparing(t, p, 8)
	s, err := db.Prepare("SELECT a")
	must(t, err)
	for range 5 {
		must(t, s.QueryRow().Scan(new(int)))
	}
	must(t, s.Close())
	if len(p.prepared) != 1 {
		t.Errorf("one statement was prepared %d times", len(p.prepared))
	}
}

// TestOnlyPlainStatementsAreKept: others change what kept ones mean, or mean
// something else when they are prepared.
func TestOnlyPlainStatementsAreKept(t *testing.T) {
	p := new(preparing)
	db := openPreparing(t, p, 8)
	for _, query := range []string{"SELECT a; DELETE FROM b", "CREATE TABLE t (a)", "PRAGMA foreign_keys", "BEGIN", "COMMIT", "", "SAVEPOINT a", "VACUUM"} {
		for range 4 {
			_, err := db.Exec(query)
			must(t, err)
		}
	}
	if len(p.prepared) != 0 {
		t.Errorf("prepared %q", p.prepared)
	}
}

// TestNoCache: with stmt_cache=0 everything is as on the bare driver.
func TestNoCache(t *testing.T) {
	p := new(preparing)
	db := openPreparing(t, p, 0)
	runAll(t, db, "SELECT a", "SELECT a", "SELECT a")
	if p.direct != 3 || len(p.prepared) != 0 {
		t.Errorf("%d of 3 texts were sent as they are, and %d were prepared", p.direct, len(p.prepared))
	}
}

// TestStatementStatistics: what was looked for, and what is kept, by statements on the pool, in a transaction, and of the
// program's own. It counts what is on connections that are free, and what those have had that are closed.
func TestStatementStatistics(t *testing.T) {
	expect := func(t *testing.T, db *sql.DB, want StatementStatistics) {
		t.Helper()
		st, err := Stats(db)
		must(t, err)
		if st.Statements != want {
			t.Errorf("got %+v, want %+v", st.Statements, want)
		}
	}
	db := openPreparing(t, new(preparing), 8)
	begun, err := Stats(db)
	must(t, err)
	at := func(hits, misses int64, kept int) StatementStatistics {
		return StatementStatistics{begun.Statements.Hits + hits, begun.Statements.Misses + misses, kept}
	}
	runAll(t, db, "SELECT a") // sent as text
	expect(t, db, at(0, 1, 0))
	runAll(t, db, "SELECT a") // prepared
	expect(t, db, at(0, 2, 1))
	runAll(t, db, "SELECT a", "SELECT a")
	expect(t, db, at(2, 2, 1))

	tx, err := db.Begin()
	must(t, err)
	for range 2 * 64 { // those that are in use tell now and then
		runAll(t, tx, "SELECT a")
	}
	st, err := Stats(db)
	must(t, err)
	if got := st.Statements.Hits - begun.Statements.Hits; got < 2*64-64 {
		t.Errorf("in a long transaction %d hits are told", got)
	}
	must(t, tx.Rollback())
	expect(t, db, at(2+2*64, 2, 1))

	own, err := db.Prepare("SELECT b")
	must(t, err)
	for range 3 {
		rows, err := own.Query()
		must(t, err)
		must(t, rows.Close())
	}
	must(t, own.Close())
	st, err = Stats(db)
	must(t, err)
	if got := st.Statements; got.Kept != 2 || got.Misses != at(0, 3, 0).Misses {
		t.Errorf("with a statement of the program's own: %+v", got)
	}

	conn, err := db.Conn(t.Context())
	must(t, err)
	must(t, conn.Raw(func(any) error { return nil }))
	must(t, conn.Close())
	inner, err := Inner(db)
	must(t, err)
	inner.SetMaxIdleConns(-1) // closes the connection
	if st, err = Stats(db); err != nil || st.Statements.Kept != 0 || st.Statements.Misses != at(0, 3, 0).Misses {
		t.Errorf("after the connection was closed: %+v, %v", st.Statements, err)
	}
}

// TestStatementStatisticsUnderLoad: Stats beside calls on many connections loses no count.
func TestStatementStatisticsUnderLoad(t *testing.T) {
	c, err := NewConnector(new(stub), StmtCache(8), Dialect("sqlite"), MaxOpenConns(4))
	must(t, err)
	dialect := *c.engine
	dialect.KeepFrom = func(driver.Conn) int { return 0 }
	c.engine = &dialect
	db := sql.OpenDB(c)
	defer db.Close()
	const workers, calls = 8, 200
	var done sync.WaitGroup
	stop := make(chan struct{})
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		for {
			select {
			case <-stop:
				return
			default:
				if _, err := Stats(db); err != nil {
					t.Error(err)
				}
				runtime.Gosched()
			}
		}
	}()
	for w := range workers {
		done.Go(func() {
			for range calls {
				rows, err := db.QueryContext(WithUser(t.Context(), w), "SELECT a")
				if err != nil {
					t.Error(err)
					return
				}
				rows.Close()
			}
		})
	}
	done.Wait()
	close(stop)
	<-looked
	st, err := Stats(db)
	must(t, err)
	if got := st.Statements.Hits + st.Statements.Misses; got != workers*calls || st.Statements.Kept < 1 || st.Statements.Kept > 4 {
		t.Errorf("%d lookups of %d calls, and %d kept", got, workers*calls, st.Statements.Kept)
	}
}
