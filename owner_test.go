package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/calmdocs/dblocker/internal/postgres"
	"github.com/calmdocs/dblocker/internal/sqlite"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// TestOwnerDoesNotBlockItself: what one request does beside its own open work runs
// at once, where it does so on the bare driver.
func TestOwnerDoesNotBlockItself(t *testing.T) {
	readOnly := &sql.TxOptions{ReadOnly: true}
	for _, tc := range []struct {
		name          string
		first, second func(context.Context, *sql.DB) (func() error, error)
	}{
		{"a query in its rows", openRows("SELECT v FROM t"), openRows("SELECT v FROM t")},
		{"an Exec in its rows", openRows("SELECT v FROM t"), exec},
		{"an Exec in its writing rows", inMode(Exclusive, openRows("INSERT INTO t VALUES (1) RETURNING v")), exec},
		{"a transaction in its rows", openRows("SELECT v FROM t"), begin(nil)},
		{"a query beside its transaction", begin(nil), openRows("SELECT v FROM t")},
		{"an Exec beside its transaction", begin(nil), exec},
		{"a read-only transaction beside its transaction", begin(nil), begin(readOnly)},
		{"an Exec beside its read-only transaction", begin(readOnly), exec},
	} {
		t.Run(tc.name, func(t *testing.T) {
			db := openStub(t, &stub{}, LockTimeout(0))
			ctx := asUser(1)
			endFirst, err := tc.first(ctx, db)
			must(t, err)
			endSecond, err := tc.second(ctx, db)
			must(t, err)
			if _, err := db.ExecContext(Fork(ctx), "UPDATE t SET v = 1"); !errors.Is(err, ErrLockTimeout) {
				t.Errorf("a fork of the request was let in: %v", err)
			}
			must(t, endSecond())
			must(t, endFirst())
			_, err = db.ExecContext(Fork(ctx), "UPDATE t SET v = 1")
			must(t, err)
		})
	}
}

func exec(ctx context.Context, db *sql.DB) (func() error, error) {
	_, err := db.ExecContext(ctx, "UPDATE t SET v = 1")
	return func() error { return nil }, err
}

func inMode(mode Mode, do func(context.Context, *sql.DB) (func() error, error)) func(context.Context, *sql.DB) (func() error, error) {
	return func(ctx context.Context, db *sql.DB) (func() error, error) { return do(WithMode(ctx, mode), db) }
}

// TestReadPassesQueuedWriter: a stranger's writer waits for the rows, and would
// have to wait for ever if the reader had to wait for the writer.
func TestReadPassesQueuedWriter(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := openStub(t, &stub{})
		ctx := asUser(1)
		rows, err := db.QueryContext(ctx, "SELECT v FROM t")
		must(t, err)
		go db.ExecContext(asUser(1), "UPDATE t SET v = 1")
		synctest.Wait()
		start := time.Now()
		must(t, db.QueryRowContext(ctx, "SELECT v FROM t").Scan(new(int)))
		if waited := time.Since(start); waited != 0 {
			t.Errorf("the read behind its own read waited %v", waited)
		}
		must(t, rows.Close())
		synctest.Wait()
	})
}

// TestSelfWait: an owner waits for its own transaction at most self_wait.
func TestSelfWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := openStub(t, &stub{})
		ctx := asUser("ann")
		tx, err := db.BeginTx(ctx, nil)
		must(t, err)
		start := time.Now()
		_, err = db.BeginTx(ctx, nil)
		if !errors.Is(err, ErrDeadlock) || time.Since(start) != 5*time.Second {
			t.Errorf("a second transaction beside the first: got %v after %v, want ErrDeadlock after 5s", err, time.Since(start))
		}
		for _, part := range []string{`the exclusive lock of user "ann"`, "transaction of the same owner", "dblocker.Fork"} {
			if !strings.Contains(fmt.Sprint(err), part) {
				t.Errorf("the error does not say %q: %v", part, err)
			}
		}
		must(t, tx.Commit())
		_, err = db.ExecContext(ctx, "UPDATE t SET v = 1")
		must(t, err)
	})
}

// TestParallelWorkMakesProgress: self_wait is for each that is in the way, not for all
// of them together.
func TestParallelWorkMakesProgress(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := openStub(t, &stub{}, SelfWait(2*time.Second))
		ctx := asUser(1)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				tx, err := db.BeginTx(ctx, nil)
				if err != nil {
					t.Error(err)
					return
				}
				time.Sleep(time.Second)
				if err := tx.Commit(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
}

// TestParallelWorkOfOneOwner is as safe as that of several.
func TestParallelWorkOfOneOwner(t *testing.T) {
	onEngines(t, "self_wait=1m", func(t *testing.T, db *sql.DB, c *Connector) {
		ctx := asUser(1)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if err := increment(ctx, db, "1"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		var n int
		must(t, db.QueryRow("SELECT n FROM counters WHERE id = '1'").Scan(&n))
		if n != 8 {
			t.Errorf("%d of 8 transactions took effect", n)
		}
	})
}

// other returns a context of the same owner for another user.
func other(ctx context.Context, user string) context.Context {
	return context.WithValue(ctx, UserKey, user)
}

// TestDeadlocksEndAtOnce has requests lock users in a circle: the one that closes
// it learns so at once, and the others go on.
func TestDeadlocksEndAtOnce(t *testing.T) {
	for n := 2; n <= 5; n++ {
		t.Run(fmt.Sprintf("%d in a ring", n), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				db := openStub(t, &stub{})
				results, allBegun := make(chan error, n), make(chan bool)
				start := time.Now()
				var requests sync.WaitGroup
				for i := range n {
					requests.Go(func() {
						ctx := WithUser(context.Background(), i)
						tx, err := db.BeginTx(ctx, nil)
						if err == nil {
							defer tx.Rollback()
							<-allBegun
							var next *sql.Tx
							if next, err = db.BeginTx(other(ctx, fmt.Sprint((i+1)%n)), nil); err == nil {
								err = next.Rollback()
							}
						}
						results <- err
					})
				}
				synctest.Wait()
				close(allBegun)
				requests.Wait()
				deadlocks := 0
				for range n {
					if err := <-results; errors.Is(err, ErrDeadlock) {
						deadlocks++
						if !strings.Contains(err.Error(), "LockUsers") {
							t.Errorf("no way out in %q", err)
						}
					} else if err != nil {
						t.Error(err)
					}
				}
				if deadlocks != 1 || time.Since(start) != 0 {
					t.Errorf("%d of %d requests got ErrDeadlock, after %v; want one, at once", deadlocks, n, time.Since(start))
				}
			})
		})
	}
}

// TestTwoUpgradingReaders both write in their rows: their rows are spilled, and
// both get on.
func TestTwoUpgradingReaders(t *testing.T) {
	onEngines(t, "", func(t *testing.T, db *sql.DB, c *Connector) {
		if c.engine == sqlite.Engine {
			_, err := db.Exec("PRAGMA journal_mode = WAL")
			must(t, err)
		}
		ready := make(chan bool)
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				ctx := asUser(1)
				rows, err := db.QueryContext(ctx, "SELECT id FROM counters ORDER BY id")
				ready <- true
				if err != nil {
					t.Error(err)
					return
				}
				defer rows.Close()
				for rows.Next() {
					var id string
					if err := rows.Scan(&id); err != nil {
						t.Error(err)
					}
					if _, err := db.ExecContext(ctx, "UPDATE counters SET n = n + 1 WHERE id = '"+id+"'"); err != nil {
						t.Error(err)
					}
				}
			})
		}
		<-ready
		<-ready
		wg.Wait()
		var n int
		must(t, db.QueryRow("SELECT SUM(n) FROM counters").Scan(&n))
		if n != 4 {
			t.Errorf("%d of 4 updates were kept", n)
		}
	})
}

// TestConnectionsPinnedByTheirWaiters: when all connections are held by transactions
// whose requests wait for another connection, one of them learns so at once.
func TestConnectionsPinnedByTheirWaiters(t *testing.T) {
	onEngines(t, "max_open_conns=2", func(t *testing.T, db *sql.DB, c *Connector) {
		results, begun, allBegun := make(chan error, 2), make(chan bool), make(chan bool)
		for user := 1; user <= 2; user++ {
			go func() {
				ctx := asUser(user)
				// Of those that write SQLite has one at a time.
				tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: c.engine == sqlite.Engine})
				begun <- true
				if err == nil {
					<-allBegun
					err = db.QueryRowContext(ctx, "SELECT COUNT(*) FROM counters").Scan(new(int))
					tx.Rollback()
				}
				results <- err
			}()
		}
		for range 2 {
			<-begun
		}
		close(allBegun)
		first, second := <-results, <-results
		if errors.Is(first, ErrDeadlock) == errors.Is(second, ErrDeadlock) {
			t.Errorf("got %v and %v, want one ErrDeadlock", first, second)
		}
		for _, err := range []error{first, second} {
			if err != nil && (!errors.Is(err, ErrDeadlock) || !strings.Contains(err.Error(), "allow more")) {
				t.Error(err)
			}
		}
	})
}

// TestLeakedRows: a writer of their user learns who is in its way; other users
// notice nothing.
func TestLeakedRows(t *testing.T) {
	onEngines(t, "lock_timeout=300ms&trace=on", func(t *testing.T, db *sql.DB, c *Connector) {
		if c.engine == sqlite.Engine {
			_, err := db.Exec("PRAGMA journal_mode = WAL")
			must(t, err)
		}
		rows, err := db.QueryContext(asUser(1), "SELECT n FROM counters")
		must(t, err)
		_, err = db.ExecContext(asUser(1), "UPDATE counters SET n = 1 WHERE id = '1'")
		if !errors.Is(err, ErrLockTimeout) || !strings.Contains(fmt.Sprint(err), "in the way: rows, ") || !strings.Contains(fmt.Sprint(err), "owner_test.go:") {
			t.Errorf("got %v, want ErrLockTimeout that names the rows and their place", err)
		}
		_, err = db.ExecContext(asUser(2), "UPDATE counters SET n = 1 WHERE id = '2'")
		must(t, err)
		must(t, rows.Close())
	})
}

// TestManyRowsWithAnExecEach runs in flat memory while nobody else reads: with no
// memory allowed for a spill, there is none.
func TestManyRowsWithAnExecEach(t *testing.T) {
	onEngines(t, "spill_limit=0&lock_timeout=0", func(t *testing.T, db *sql.DB, c *Connector) {
		n, query := 30_000, "SELECT seq FROM seq_1_to_%d"
		switch c.engine {
		case postgres.Engine:
			query = "SELECT generate_series(1, %d)"
		case sqlite.Engine:
			n, query = 1_000_000, "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < %d) SELECT i FROM r"
		}
		if testdb.UnderRace() || testing.Short() {
			n /= 20
		}
		ctx := asUser(1)
		rows, err := db.QueryContext(ctx, fmt.Sprintf(query, n))
		must(t, err)
		defer rows.Close()
		var early int64
		read := 0
		for rows.Next() {
			if read++; read == n/10 {
				early = heapInUse()
			}
			if _, err := db.ExecContext(ctx, "DELETE FROM counters WHERE id = 'nobody'"); err != nil {
				t.Fatal(err)
			}
		}
		late := heapInUse()
		must(t, rows.Err())
		if read != n || late > early+1<<20 {
			t.Errorf("%d rows, want %d; the heap grew from %d to %d bytes", read, n, early, late)
		}
	})
}

// TestOuterHandleBesideTx: with a transaction of its own open, a request uses the
// handle too.
func TestOuterHandleBesideTx(t *testing.T) {
	onEngines(t, "lock_timeout=0", func(t *testing.T, db *sql.DB, c *Connector) {
		ctx := asUser(1)
		tx, err := db.BeginTx(ctx, nil)
		must(t, err)
		must(t, tx.QueryRowContext(ctx, "SELECT n FROM counters WHERE id = '1'").Scan(new(int)))
		must(t, db.QueryRowContext(ctx, "SELECT n FROM counters WHERE id = '1'").Scan(new(int)))
		_, err = db.ExecContext(ctx, "UPDATE counters SET n = n + 1 WHERE id = '1'")
		if c.engine == sqlite.Engine { // which lets nobody write beside it, as on the bare driver
			if !errors.Is(err, ErrLockTimeout) || !strings.Contains(err.Error(), "transaction of the same owner") {
				t.Errorf("a write beside the own transaction: %v", err)
			}
			err = nil
		}
		must(t, err)
		must(t, tx.Rollback())
	})
}

// TestThousandWaitersBeyondTimeout end when they must, and leave nothing.
func TestThousandWaitersBeyondTimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := openStub(t, &stub{}, LockTimeout(time.Minute))
		tx, err := db.BeginTx(asUser(1), nil)
		must(t, err)
		start := time.Now()
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				_, err := db.ExecContext(asUser(1), "UPDATE t SET v = 1")
				if !errors.Is(err, ErrLockTimeout) || time.Since(start) != time.Minute {
					t.Errorf("got %v after %v, want ErrLockTimeout after 1m0s", err, time.Since(start))
				}
			})
		}
		wg.Wait()
		must(t, tx.Commit())
		_, err = db.ExecContext(asUser(1), "UPDATE t SET v = 1")
		must(t, err)
	})
}

// TestContextOutlivesItsRequest: what a later request does with it waits for others
// as ever, and blocks nobody for longer than it works.
func TestContextOutlivesItsRequest(t *testing.T) {
	db := openStub(t, &stub{}, LockTimeout(0))
	old := asUser(1)
	tx, err := db.BeginTx(old, nil)
	must(t, err)
	must(t, tx.Commit())
	later, err := db.BeginTx(asUser(1), nil)
	must(t, err)
	if _, err := db.ExecContext(old, "UPDATE t SET v = 1"); !errors.Is(err, ErrLockTimeout) {
		t.Errorf("the old context beside another request: got %v, want ErrLockTimeout", err)
	}
	must(t, later.Commit())
	_, err = db.ExecContext(old, "UPDATE t SET v = 1")
	must(t, err)
}

// Users whose statements joined transactions that were begun for nobody, and that have all
// the connections, wait for one more each: one of them is told at once.
func TestJoinedTransactionsThatPinAllConnectionsAreADeadlock(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const n = 3
		db := openStub(t, &stub{}, MaxOpenConns(n))
		results := make(chan error, n)
		var txs [n]*sql.Tx
		var ctxs [n]context.Context
		for i := range n {
			var err error
			txs[i], err = db.Begin()
			must(t, err)
			ctxs[i] = asUser(i)
			_, err = txs[i].ExecContext(ctxs[i], "UPDATE t SET a = 1")
			must(t, err)
		}
		for i := range n {
			go func() {
				_, err := db.ExecContext(ctxs[i], "UPDATE t SET a = 2")
				txs[i].Rollback()
				results <- err
			}()
		}
		start, deadlocks := time.Now(), 0
		for range n {
			if err := <-results; errors.Is(err, ErrDeadlock) {
				deadlocks++
			} else if err != nil {
				t.Error(err)
			}
		}
		if waited := time.Since(start); deadlocks == 0 || waited != 0 {
			t.Errorf("%d deadlocks after %v, want one at once", deadlocks, waited)
		}
	})
}
