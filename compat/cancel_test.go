package compat

import (
	"context"
	"database/sql"
	"sync"
	"testing"
	"time"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// stubborn is work that goes on on the server when its context has ended.
type stubborn struct {
	write  string // goes on for a while, and changes the counters at the end
	stream string // a query that sends a row now and then
	begun  string // counts the sessions that are in the midst of it
	busy   string // counts those that have not ended it

	// prolong keeps the write from ending before end does; "" if it takes six
	// seconds anyhow.
	prolong, end string
}

var stubbornWork = map[*engine]stubborn{
	// The block lives on for a second after pgx, or lib/pq, has asked the server to
	// cancel it, and for as long as somebody has the advisory lock.
	postgresEngine: {
		write: `DO $$ BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN
			PERFORM pg_sleep(1); PERFORM pg_advisory_xact_lock(1); UPDATE counters SET n = n + 1; END $$`,
		stream: "SELECT repeat('x', 20000), pg_sleep(1) FROM generate_series(1, 20)",
		begun:  `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'`,
		busy: `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
			AND query LIKE '%pg_sleep%' AND xact_start IS NOT NULL`,
		prolong: "SELECT pg_advisory_lock(1)",
		end:     "SELECT pg_advisory_unlock(1)",
	},
	mysqlEngine: {
		write:  "UPDATE counters SET n = n + 1 + SLEEP(3)",
		stream: "SELECT REPEAT('x', 20000), SLEEP(1) FROM counters a, counters b, counters c, counters d",
		begun:  `SELECT count(*) FROM information_schema.processlist WHERE db = DATABASE() AND state = 'User sleep'`,
		busy: `SELECT count(*) FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()
			AND info LIKE '%SLEEP%'`,
	},
}

// A cancelScene is a database with counters, and a view of it past dblocker.
type cancelScene struct {
	*testing.T
	stubborn
	driver   string
	db, bare *sql.DB

	letEnd func() // undoes prolong
}

func newCancelScene(t *testing.T, d testDriver, options string) *cancelScene {
	dsn := d.database(t)
	s := &cancelScene{T: t, stubborn: stubbornWork[d.engine], driver: d.name, letEnd: func() {}}
	s.db, s.bare = open(t, "dblocker", withOption(d.name, options)+":"+dsn), open(t, d.name, dsn)
	for _, query := range []string{"CREATE TABLE counters (n int)", "INSERT INTO counters VALUES (0), (0)"} {
		if _, err := s.bare.Exec(query); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *cancelScene) count(query string) (n int) {
	s.Helper()
	if err := s.bare.QueryRow(query).Scan(&n); err != nil {
		s.Fatal(err)
	}
	return n
}

// waitFor polls the server until a query counts some sessions, or none.
func (s *cancelScene) waitFor(query string, some bool) {
	s.Helper()
	for deadline := time.Now().Add(30 * time.Second); (s.count(query) > 0) != some; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.Fatalf("waited 30 seconds for %s to count some: %v", query, some)
		}
	}
}

// prolongWrite has the server go on with the cancelled write until letEnd is called.
func (s *cancelScene) prolongWrite() {
	s.Helper()
	if s.prolong == "" {
		return
	}
	conn, err := s.bare.Conn(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	if _, err := conn.ExecContext(s.Context(), s.prolong); err != nil {
		s.Fatal(err)
	}
	s.letEnd = sync.OnceFunc(func() {
		if _, err := conn.ExecContext(context.Background(), s.end); err != nil {
			s.Error(err)
		}
		conn.Close()
	})
	s.Cleanup(s.letEnd)
}

// cancelled runs work of user 1 whose context ends once the server is at it. Like
// on the bare driver, the call returns then, long before the server has ended the
// work; lib/pq waits for its answer.
func (s *cancelScene) cancelled(work func(context.Context) error) {
	s.Helper()
	waits := s.driver == "postgres"
	if !waits {
		s.prolongWrite()
	}
	ctx, cancel := context.WithCancel(dblocker.WithUser(s.Context(), 1))
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- work(ctx) }()
	s.waitFor(s.begun, true)
	start := time.Now()
	cancel()
	var tooLate <-chan time.Time
	if !waits {
		tooLate = time.After(5 * time.Second)
	}
	var err error
	select {
	case err = <-done:
	case <-tooLate:
		s.Errorf("the call goes on %v after its context has ended", time.Since(start))
		s.letEnd()
		err = <-done
	}
	if err == nil && !waits {
		s.Error("the cancelled call had no error")
	}
}

// overlaps lets the next owner of user 1's lock tell whether the server is still
// at the cancelled work, and whether that changes the counters beside it.
func (s *cancelScene) overlaps() (busy, changed bool) {
	s.Helper()
	tx, err := s.db.BeginTx(dblocker.WithUser(s.Context(), 1), nil)
	if err != nil {
		s.Fatal(err)
	}
	defer tx.Rollback()
	const sum = "SELECT sum(n) FROM counters"
	before := s.count(sum)
	busy = s.count(s.busy) > 0
	s.letEnd()
	s.waitFor(s.busy, false)
	return busy, s.count(sum) != before
}

// cancelledWork is each way to have a statement cancelled.
var cancelledWork = []struct {
	name string
	run  func(ctx context.Context, s *cancelScene) error
}{
	{"exec", func(ctx context.Context, s *cancelScene) error {
		_, err := s.db.ExecContext(ctx, s.write)
		return err
	}},
	{"prepared", func(ctx context.Context, s *cancelScene) error {
		stmt, err := s.db.PrepareContext(ctx, s.write)
		if err != nil {
			return err
		}
		defer stmt.Close()
		_, err = stmt.ExecContext(ctx)
		return err
	}},
	{"query", func(ctx context.Context, s *cancelScene) error { return drain(ctx, s.db, s.write) }},
	{"rows", func(ctx context.Context, s *cancelScene) error { return drain(ctx, s.db, s.stream) }},
	{"transaction", func(ctx context.Context, s *cancelScene) error {
		tx, err := s.db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		_, err = tx.ExecContext(ctx, s.write)
		return err
	}},
	{"statement in a transaction", func(ctx context.Context, s *cancelScene) error {
		tx, err := s.db.BeginTx(context.WithoutCancel(ctx), nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		_, err = tx.ExecContext(ctx, s.write)
		return err
	}},
	{"user's statement in an untagged transaction", func(ctx context.Context, s *cancelScene) error {
		tx, err := s.db.BeginTx(context.Background(), nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		_, err = tx.ExecContext(ctx, s.write)
		return err
	}},
	{"raw transaction", func(ctx context.Context, s *cancelScene) error {
		conn, err := s.db.Conn(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := conn.ExecContext(ctx, "BEGIN"); err != nil {
			return err
		}
		_, err = conn.ExecContext(ctx, s.write)
		return err
	}},
}

// TestCancelledWorkKeepsItsLock until the server has ended it: the next of its user
// does not overlap it.
func TestCancelledWorkKeepsItsLock(t *testing.T) {
	for _, d := range mainDrivers(postgresEngine, mysqlEngine) {
		t.Run(d.title, func(t *testing.T) {
			testdb.NoLeaks(t)
			for _, work := range cancelledWork {
				t.Run(work.name, func(t *testing.T) {
					testdb.NoLeaks(t)
					s := newCancelScene(t, d, "cancel_grace=30s")
					s.cancelled(func(ctx context.Context) error { return work.run(ctx, s) })
					s.letEnd()
					if busy, changed := s.overlaps(); busy || changed {
						t.Errorf("beside the next owner of the lock: at work %v, changed the data %v", busy, changed)
					}
				})
			}
		})
	}
}

// TestCancelledWorkOverlapsWithoutGrace is the same without the cure, to show
// that the test above can fail.
func TestCancelledWorkOverlapsWithoutGrace(t *testing.T) {
	for _, d := range mainDrivers(postgresEngine, mysqlEngine) {
		if d.name == "postgres" {
			continue // the driver itself waits
		}
		t.Run(d.title, func(t *testing.T) {
			testdb.NoLeaks(t)
			var busy, changed bool
			for try := 0; try < 5 && !(busy && changed); try++ { // now and then the server has ended it at once
				s := newCancelScene(t, d, "cancel_grace=0")
				s.cancelled(func(ctx context.Context) error {
					_, err := s.db.ExecContext(ctx, s.write)
					return err
				})
				busy, changed = s.overlaps()
			}
			if !busy || !changed {
				t.Errorf("beside the next owner of the lock: at work %v, changed the data %v; want both", busy, changed)
			}
		})
	}
}

// TestTransactionKeepsItsLockUntilRolledBack, also if it is the context that ends
// it, between two statements: its row locks are gone when the next begins.
func TestTransactionKeepsItsLockUntilRolledBack(t *testing.T) {
	for _, d := range mainDrivers(postgresEngine, mysqlEngine) {
		t.Run(d.title, func(t *testing.T) {
			testdb.NoLeaks(t)
			s := newCancelScene(t, d, "cancel_grace=30s")
			for range 20 {
				ctx, cancel := context.WithCancel(dblocker.WithUser(t.Context(), 1))
				tx, err := s.db.BeginTx(ctx, nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := tx.ExecContext(ctx, "UPDATE counters SET n = n + 1"); err != nil {
					t.Error(err)
				}
				cancel()
				if err := s.lockRows(); err != nil {
					t.Fatalf("beside the next owner of the lock: %v", err)
				}
			}
			if n := s.count("SELECT sum(n) FROM counters"); n != 0 {
				t.Errorf("the counters are at %d, want 0", n)
			}
		})
	}
}

// lockRows locks the counters as user 1, unless others have them locked.
func (s *cancelScene) lockRows() error {
	ctx := dblocker.WithUser(s.Context(), 1)
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	return drain(ctx, tx, "SELECT n FROM counters FOR UPDATE NOWAIT")
}
