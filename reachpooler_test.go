package dblocker

import (
	"context"
	"database/sql"
	"strings"
	"sync"
	"testing"

	"github.com/lib/pq"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// openBehind opens the scene's database by another DSN.
func (s *reachScene) openBehind(dsn string, opts ...Option) *sql.DB {
	s.Helper()
	connector, err := pq.NewConnector(dsn)
	must(s.T, err)
	db, err := OpenDB(connector, append([]Option{LockScope(DatabaseScope)}, opts...)...)
	must(s.T, err)
	s.Cleanup(func() { db.Close() })
	return db
}

// expectRefused checks that nothing works on a handle, and that the reason says so.
func expectRefused(t *testing.T, db *sql.DB, says string) {
	t.Helper()
	ctx := asReachUser("u")
	for _, way := range waitWays {
		if err := way.do(ctx, db); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v, want that it says %q", way.name, err, says)
		}
	}
	if err := db.Ping(); err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("Ping: got %v, want that it says %q", err, says)
	}
}

// TestReachBehindSessionPooler: behind a pooler that says to serve each client by one session, locks reach to who is connected without it.
func TestReachBehindSessionPooler(t *testing.T) {
	s := newReachScene(t)
	bouncer := testdb.PrivateSessionPgBouncer(t, testdb.Postgres(t))
	dsn := strings.Replace(s.dsn, portOf(testdb.Postgres(t)), portOf(bouncer.Server), 1)
	expectRefused(t, s.openBehind(dsn), "pooler=session")
	expectRefused(t, s.openBehind(dsn, Pooler(NoPooler)), "pooler=session")
	behind, direct := s.openBehind(dsn, Pooler(SessionPooler)), s.process()
	const workers, rounds = 2, 5
	want := 0
	for _, work := range reachWorks {
		var all sync.WaitGroup
		for _, db := range []*sql.DB{behind, direct} {
			for range workers {
				all.Go(func() {
					for range rounds {
						if err := work.do(asReachUser("u"), db); err != nil {
							t.Errorf("%s: %v", work.name, err)
						}
					}
				})
			}
		}
		all.Wait()
		want += 2 * workers * rounds
		s.checkCounter(work.name, want)
	}
	ctx, unlock, err := Lock(asReachUser("u"), behind)
	must(t, err)
	var pid string
	must(t, behind.QueryRowContext(ctx, "SELECT pg_backend_pid()").Scan(&pid))
	_, _, err = Lock(asReachUser("u"), s.process(LockTimeout(100e6)))
	if err == nil || !strings.Contains(err.Error(), "session "+pid+" of another process") {
		t.Errorf("got %v, want session %s", err, pid)
	}
	unlock()
	behind.Close()
}

// TestReachBehindTransactionPooler: a pooler that gives the next statement to another session is refused, whatever the handle says.
func TestReachBehindTransactionPooler(t *testing.T) {
	s := newReachScene(t)
	bouncer := testdb.PrivatePgBouncer(t, testdb.Postgres(t))
	dsn := strings.Replace(s.dsn, portOf(testdb.Postgres(t)), portOf(bouncer.Server), 1)
	expectRefused(t, s.openBehind(dsn), "connection pooler")
	expectRefused(t, s.openBehind(dsn, Pooler(SessionPooler)), "session")
	db, err := sql.Open("postgres", dsn) // others keep its sessions busy
	must(t, err)
	defer db.Close()
	ctx, cancel := context.WithCancel(context.Background())
	var busy sync.WaitGroup
	for range 6 {
		busy.Go(func() {
			for ctx.Err() == nil {
				db.ExecContext(ctx, "SELECT 1; SELECT pg_sleep(0.001)")
			}
		})
	}
	for range 10 {
		expectRefused(t, s.openBehind(dsn, Pooler(SessionPooler)), "dblocker: lock_scope=database")
	}
	cancel()
	busy.Wait()
}

func portOf(s *testdb.Server) string {
	addr := s.Addr()
	return addr[strings.LastIndex(addr, ":")+1:]
}

// TestReachOnStubs: a server whose advisory locks always succeed, as those of some that speak PostgreSQL's protocol, is refused.
func TestReachOnStubs(t *testing.T) {
	s := newReachScene(t)
	s.exec("CREATE SCHEMA stubs")
	for _, mode := range []string{"", "_shared"} {
		for _, f := range []struct{ name, result string }{
			{"pg_try_advisory_lock", "boolean"}, {"pg_try_advisory_xact_lock", "boolean"}, {"pg_advisory_unlock", "boolean"}, {"pg_advisory_lock", "void"}, {"pg_advisory_xact_lock", "void"},
		} {
			body := "SELECT true"
			if f.result == "void" {
				body = "SELECT NULL::void"
			}
			s.exec("CREATE FUNCTION stubs." + f.name + mode + "(bigint) RETURNS " + f.result + " LANGUAGE sql AS '" + body + "'")
		}
	}
	expectRefused(t, s.openBehind(s.dsn+" search_path=stubs,public,pg_catalog"), "exclude nobody")
}

// TestReachWithoutRights: a role that may not use the server's locks is refused.
func TestReachWithoutRights(t *testing.T) {
	s := newReachScene(t)
	var role string
	must(t, s.plain.QueryRow("SELECT current_database() || '_role'").Scan(&role))
	s.exec("CREATE ROLE " + role + " LOGIN PASSWORD 'x'")
	t.Cleanup(func() { s.exec("DROP OWNED BY " + role + "; DROP ROLE " + role) })
	for _, mode := range []string{"", "_shared"} {
		s.exec("REVOKE EXECUTE ON FUNCTION pg_try_advisory_lock" + mode + "(bigint) FROM PUBLIC")
	}
	s.exec("GRANT ALL ON counters TO " + role)
	expectRefused(t, s.openBehind(s.dsn+" user="+role+" password=x"), "permission denied for function pg_try_advisory_lock")
}
