package dblocker

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/calmdocs/dblocker/internal/fakedriver"
	"github.com/calmdocs/dblocker/internal/server"
)

// What a call works under that runs beside another one of its request is the lock of that one, which stays until both have ended.

// lockHolders take the lock of a user, and return what ends them.
var lockHolders = []struct {
	name string
	take func(t *testing.T, ctx context.Context, db *sql.DB) (end func())
}{
	{"rows", func(t *testing.T, ctx context.Context, db *sql.DB) func() {
		rows := firstRow(t, ctx, db)
		return func() { must(t, rows.Close()) }
	}},
	{"rows of a sql.Conn", func(t *testing.T, ctx context.Context, db *sql.DB) func() {
		conn, err := db.Conn(ctx)
		must(t, err)
		t.Cleanup(func() { conn.Close() })
		rows := firstRow(t, ctx, conn)
		return func() {
			must(t, rows.Close())
			must(t, conn.PingContext(ctx))
		}
	}},
	{"Tx", func(t *testing.T, ctx context.Context, db *sql.DB) func() {
		tx, err := db.BeginTx(ctx, nil)
		must(t, err)
		return func() { must(t, tx.Commit()) }
	}},
	{"Tx that only reads", func(t *testing.T, ctx context.Context, db *sql.DB) func() {
		tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		must(t, err)
		return func() { must(t, tx.Rollback()) }
	}},
	{"section", func(t *testing.T, ctx context.Context, db *sql.DB) func() {
		_, unlock, err := Lock(ctx, db)
		must(t, err)
		return unlock
	}},
	{"section that was used", func(t *testing.T, ctx context.Context, db *sql.DB) func() {
		inside, unlock, err := RLock(ctx, db)
		must(t, err)
		must(t, db.QueryRowContext(inside, "SELECT 1").Scan(new(int)))
		return unlock
	}},
	{"section inside another", func(t *testing.T, ctx context.Context, db *sql.DB) func() {
		outer, unlock, err := Lock(WithUser(ctx, "outer"), db)
		must(t, err)
		t.Cleanup(unlock)
		_, leave, err := Lock(WithUser(outer, "u"), db)
		must(t, err)
		return leave
	}},
}

// firstRow begins a query, and reads the first of two rows.
func firstRow(t *testing.T, ctx context.Context, q interface {
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
}) *sql.Rows {
	t.Helper()
	rows, err := q.QueryContext(ctx, "SELECT name FROM counters")
	must(t, err)
	t.Cleanup(func() { rows.Close() })
	if !rows.Next() {
		t.Fatal(rows.Err())
	}
	return rows
}

// testUnder has a query outlive, in all ways, what it began under; another process is to be kept out until both have ended.
func testUnder(t *testing.T, process func(...Option) *sql.DB) {
	for _, holder := range lockHolders {
		t.Run(holder.name, func(t *testing.T) {
			db, other := process(), process(LockTimeout(100*time.Millisecond))
			touch := func() error {
				_, err := other.ExecContext(WithUser(context.Background(), "u"), touchCounters)
				return err
			}
			keptOut := func(while string) {
				t.Helper()
				if err := touch(); !errors.Is(err, ErrLockTimeout) {
					t.Errorf("another process, while %s: got %v, want ErrLockTimeout", while, err)
				}
			}
			ctx, cancel := context.WithTimeout(WithUser(context.Background(), "u"), 20*time.Second)
			defer cancel()
			end := holder.take(t, ctx, db)
			under := firstRow(t, ctx, db)
			end()
			keptOut("the rows are open")
			beside := firstRow(t, ctx, db) // works at once, whoever waits
			must(t, under.Close())
			keptOut("the last rows are open")
			if !beside.Next() {
				t.Error(beside.Err())
			}
			must(t, beside.Close())
			for until := time.Now().Add(10 * time.Second); ; {
				err := touch()
				if err == nil {
					break
				}
				if time.Now().After(until) {
					t.Fatalf("another process, after all has ended: %v", err)
				}
			}
			_, err := db.ExecContext(ctx, touchCounters)
			must(t, err)
		})
	}
}

// TestReachUnder: a query that runs under what its request has of a user outlives no lock.
func TestReachUnder(t *testing.T) {
	eachReach(t, testUnder)
}

// TestReachUnderWithFewConnections: what stays for another call does not keep its request from the last connection.
func TestReachUnderWithFewConnections(t *testing.T) {
	eachReach(t, func(t *testing.T, process func(...Option) *sql.DB) {
		db := process(MaxOpenConns(2))
		ctx, cancel := context.WithTimeout(WithUser(context.Background(), "u"), 10*time.Second)
		defer cancel()
		first := firstRow(t, ctx, db)
		second := firstRow(t, ctx, db)
		must(t, first.Close())
		must(t, db.QueryRowContext(ctx, "SELECT n FROM counters").Scan(new(int)))
		_, err := db.ExecContext(ctx, touchCounters)
		must(t, err)
		if !second.Next() || second.Next() || second.Err() != nil {
			t.Errorf("got other rows: %v", second.Err())
		}
	})
}

// TestReachUnderLost: a call whose lock is lost with the connection of another one hears of it, also if that one has ended.
func TestReachUnderLost(t *testing.T) {
	s := newReachScene(t)
	db := s.process()
	ctx, cancel := context.WithTimeout(WithUser(context.Background(), "u"), 20*time.Second)
	defer cancel()
	tx, err := db.BeginTx(ctx, nil)
	must(t, err)
	under := firstRow(t, ctx, db)
	must(t, tx.Commit())
	s.exec("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())")
	s.untilNoLocks()
	if err := db.QueryRowContext(ctx, "SELECT 1").Scan(new(int)); !errors.Is(err, ErrLockLost) {
		t.Errorf("got %v, want ErrLockLost", err)
	}
	must(t, under.Close())
	must(t, db.QueryRowContext(ctx, "SELECT 1").Scan(new(int)))
	_, err = db.ExecContext(ctx, touchCounters)
	must(t, err)
}

// TestReachUnderAnEndedTx: an Exec goes on under the lock of a Tx that another goroutine ends meanwhile, or whose context ends.
func TestReachUnderAnEndedTx(t *testing.T) {
	type scene struct {
		process func(...Option) *sql.DB
		plain   *sql.DB
		until   func(string, func() bool)
		waits   string // the number of those that wait for a row
	}
	for name, newScene := range map[string]func(t *testing.T) scene{
		"postgres": func(t *testing.T) scene {
			s := newReachScene(t)
			return scene{s.process, s.plain, s.until, "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype <> 'advisory'"}
		},
		"mysql": func(t *testing.T) scene {
			s := newReachMySQLScene(t)
			return scene{s.process, s.plain, s.until, "SELECT count(*) FROM information_schema.processlist WHERE info LIKE 'UPDATE counters%'"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			for _, way := range []string{"Commit", "its context"} {
				db, other := s.process(), s.process(LockTimeout(100*time.Millisecond))
				ctx, cancel := context.WithTimeout(WithUser(context.Background(), "u"), 20*time.Second)
				defer cancel()
				of, end := context.WithCancel(ctx)
				tx, err := db.BeginTx(of, nil)
				must(t, err)
				before, err := s.plain.Begin()
				must(t, err)
				_, err = before.Exec("UPDATE counters SET n = n WHERE name = 'a'")
				must(t, err)
				done := make(chan error, 1)
				go func() {
					_, err := db.ExecContext(ctx, touchCounters)
					done <- err
				}()
				s.until("the Exec waits for the row", func() bool {
					var n int
					must(t, s.plain.QueryRow(s.waits).Scan(&n))
					return n > 0
				})
				if way == "Commit" {
					must(t, tx.Commit())
				}
				end()
				s.until("the Tx has ended", func() bool { return tx.Rollback() == sql.ErrTxDone })
				if _, err := other.ExecContext(WithUser(context.Background(), "u"), touchCounters); !errors.Is(err, ErrLockTimeout) {
					t.Errorf("%s: another process beside the Exec: got %v, want ErrLockTimeout", way, err)
				}
				must(t, before.Rollback())
				if err := <-done; err != nil {
					t.Errorf("%s: the Exec: %v", way, err)
				}
				s.until("another process has the lock", func() bool {
					_, err := other.ExecContext(WithUser(context.Background(), "u"), touchCounters)
					return err == nil
				})
			}
		})
	}
}

// TestReachFileUnder: on a SQLite file too the lock stays for the last call that works under it.
func TestReachFileUnder(t *testing.T) {
	s := newFileScene(t, "", "")
	p := newPeer(t, s.dsn(""))
	for _, holder := range lockHolders {
		if holder.name == "section inside another" {
			continue // whose owner would wait for itself at the gate
		}
		ctx, cancel := context.WithTimeout(WithUser(context.Background(), "u0"), 20*time.Second)
		defer cancel()
		end := holder.take(t, ctx, s.db)
		under := firstRow(t, ctx, s.db)
		end()
		p.keptOut("try", "u0")
		must(t, under.Close())
		p.do("within", "1m", "write", "u0")
	}
}

// TestReachUnderAsksWithinTheContext: a write beside a Tx of its own asks for the lock of that before it is sent. If the context ends meanwhile, that is the
// error, and nothing was done; while a lock that is gone is told so.
func TestReachUnderAsksWithinTheContext(t *testing.T) {
	for name, asked := range map[string]struct {
		ends bool // the context
		err  error
		want error
	}{
		"context":                    {true, errors.New("the server has ended the statement"), context.Canceled},
		"context and its connection": {true, driver.ErrBadConn, context.Canceled},
		"gone":                       {true, nil, ErrLockLost},
		"error":                      {false, errors.New("the server has failed"), ErrLockLost},
	} {
		t.Run(name, func(t *testing.T) {
			s := fakedriver.NewServer(fakedriver.Full())
			ctx, cancel := context.WithCancel(asUser(1))
			defer cancel()
			locks := fakeLocks
			locks.Has = func(context.Context, *server.Conn, string, []server.WantedLock) (bool, error) {
				if asked.ends {
					cancel()
				}
				return false, asked.err
			}
			c, err := NewConnector(s.Connector(), Dialect("generic"))
			must(t, err)
			engine := *c.engine
			engine.Locks = &locks
			c.engine, c.lockScope = &engine, DatabaseScope
			db := sql.OpenDB(c)
			defer db.Close()
			tx, err := db.BeginTx(context.WithoutCancel(ctx), nil)
			must(t, err)
			defer tx.Rollback()
			_, err = db.ExecContext(ctx, "UPDATE t SET v = 1")
			if !errors.Is(err, asked.want) || errors.Is(err, ErrLockLost) != (asked.want == ErrLockLost) {
				t.Errorf("got %v, want %v", err, asked.want)
			}
			for _, call := range s.Calls() {
				if strings.Contains(call, "UPDATE") {
					t.Errorf("the write was sent: %s", call)
				}
			}
		})
	}
}
