package dblocker

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// operations are the ways to work on a handle, with the mode of the lock that
// they take. Each returns a function that ends the operation.
var operations = []struct {
	name string
	mode Mode
	run  func(ctx context.Context, db *sql.DB) (end func() error, err error)
}{ // those of queries that do more than to read give it up when these return
	{"Query that reads", Shared, openRows("SELECT v FROM t")},
	{"Query that writes", Exclusive, openRows("INSERT INTO t VALUES (1) RETURNING v")},
	{"Query that locks rows", Exclusive, openRows("SELECT v FROM t FOR UPDATE")},
	{"Query of several statements", Exclusive, openRows("SELECT v FROM t; SELECT v FROM t")},
	{"Query of a prepared statement", Shared, func(ctx context.Context, db *sql.DB) (func() error, error) {
		s, err := db.PrepareContext(ctx, "SELECT v FROM t")
		if err != nil {
			return nil, err
		}
		rows, err := s.QueryContext(ctx)
		if err != nil {
			return nil, err
		}
		return func() error { return errors.Join(rows.Close(), s.Close()) }, nil
	}},
	{"Query on a sql.Conn", Shared, func(ctx context.Context, db *sql.DB) (func() error, error) {
		c, err := db.Conn(ctx)
		if err != nil {
			return nil, err
		}
		rows, err := c.QueryContext(ctx, "SELECT v FROM t")
		if err != nil {
			return nil, err
		}
		return func() error { return errors.Join(rows.Close(), c.Close()) }, nil
	}},
	{"transaction", Exclusive, begin(nil)},
	{"read-only transaction", Shared, begin(&sql.TxOptions{ReadOnly: true})},
	{"Query with WithMode(Exclusive)", Exclusive, func(ctx context.Context, db *sql.DB) (func() error, error) {
		return openRows("SELECT f()")(WithMode(ctx, Exclusive), db)
	}},
	{"Query with WithMode(Shared)", Shared, func(ctx context.Context, db *sql.DB) (func() error, error) {
		return openRows("CALL f()")(WithMode(ctx, Shared), db)
	}},
}

func openRows(query string) func(context.Context, *sql.DB) (func() error, error) {
	return func(ctx context.Context, db *sql.DB) (func() error, error) {
		rows, err := db.QueryContext(ctx, query)
		if err != nil {
			return nil, err
		}
		return rows.Close, nil
	}
}

func begin(opts *sql.TxOptions) func(context.Context, *sql.DB) (func() error, error) {
	return func(ctx context.Context, db *sql.DB) (func() error, error) {
		tx, err := db.BeginTx(ctx, opts)
		if err != nil {
			return nil, err
		}
		return tx.Commit, nil
	}
}

func asUser(id any) context.Context { return WithUser(context.Background(), id) }

// TestModes has each operation open beside another one of the same user: both
// run if both are shared, and else the second is refused until the first ends. A Query that
// writes has ended for others when it returns.
func TestModes(t *testing.T) {
	for _, first := range operations {
		for _, second := range operations {
			t.Run(first.name+" and "+second.name, func(t *testing.T) {
				db := openStub(t, &stub{}, LockTimeout(0))
				endFirst, err := first.run(asUser(1), db)
				if err != nil {
					t.Fatal(err)
				}
				passes := strings.HasPrefix(first.name, "Query that writes") || strings.HasPrefix(first.name, "Query that locks") || strings.HasPrefix(first.name, "Query of several")
				if passes { // no later than its rows have come
					waitFor(t, func() bool { return isFree(t, db, 1) })
				}
				endSecond, err := second.run(asUser("1"), db)
				if together := err == nil; together != (passes || first.mode == Shared && second.mode == Shared) {
					t.Errorf("a %v and a %v operation of one user ran together: %v", first.mode, second.mode, together)
				}
				if err != nil && !errors.Is(err, ErrLockTimeout) {
					t.Errorf("got %v, want ErrLockTimeout", err)
				}
				if err == nil {
					must(t, endSecond())
				}
				endStranger, err := second.run(asUser(2), db)
				if err != nil {
					t.Fatalf("another user had to wait: %v", err)
				}
				must(t, endStranger())
				must(t, endFirst())
				endSecond, err = second.run(asUser(1), db)
				if err != nil {
					t.Fatalf("the lock was still taken after the operation ended: %v", err)
				}
				must(t, endSecond())
			})
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestExecIsExclusive looks from inside an Exec, which holds its lock only while
// it runs.
func TestExecIsExclusive(t *testing.T) {
	s := &stub{}
	db := openStub(t, s, LockTimeout(0))
	s.run = func(_ context.Context, query string) error {
		if query != "UPDATE t SET v = 1" {
			return nil
		}
		if _, err := db.QueryContext(asUser(1), "SELECT v FROM t"); !errors.Is(err, ErrLockTimeout) {
			t.Errorf("a Query beside an Exec of the same user: got %v, want ErrLockTimeout", err)
		}
		_, err := db.ExecContext(asUser(2), "DELETE FROM t")
		return err
	}
	_, err := db.ExecContext(asUser(1), "UPDATE t SET v = 1")
	must(t, err)
	_, err = db.ExecContext(asUser(1), "DELETE FROM t")
	must(t, err)
}

func TestUntaggedWorkTakesNoLock(t *testing.T) {
	db := openStub(t, &stub{}, LockTimeout(0))
	tx, err := db.BeginTx(asUser(1), nil)
	must(t, err)
	_, err = db.Exec("UPDATE t SET v = 1")
	must(t, err)
	must(t, tx.Commit())
}

func TestUntaggedPolicies(t *testing.T) {
	t.Run("error", func(t *testing.T) {
		db := openStub(t, &stub{}, Untagged(ErrorUntagged))
		if _, err := db.Exec("UPDATE t SET v = 1"); !errors.Is(err, ErrNoUser) {
			t.Errorf("Exec: got %v, want ErrNoUser", err)
		}
		if _, err := db.Begin(); !errors.Is(err, ErrNoUser) {
			t.Errorf("Begin: got %v, want ErrNoUser", err)
		}
		must(t, db.Ping())
		tx, err := db.BeginTx(asUser(1), nil)
		must(t, err)
		if _, err := tx.Exec("UPDATE t SET v = 1"); err != nil {
			t.Errorf("an Exec without context in a user's transaction: %v", err)
		}
		must(t, tx.Commit())
	})
	t.Run("warn", func(t *testing.T) {
		var log strings.Builder
		db := openStub(t, &stub{}, Untagged(WarnUntagged), Logger(textLogger(&log)))
		for range 3 {
			_, err := db.Exec("UPDATE t SET v = 1")
			must(t, err)
		}
		if n := strings.Count(log.String(), "locking_test.go"); n != 1 {
			t.Errorf("one call site was logged %d times, want once:\n%s", n, log.String())
		}
	})
}

// TestUserJoinsUntaggedTx: a user's statement in a transaction of nobody locks the
// user out until the transaction ends, and in a transaction of another user
// needs nothing.
func TestUserJoinsUntaggedTx(t *testing.T) {
	db := openStub(t, &stub{}, LockTimeout(0))
	tx, err := db.Begin()
	must(t, err)
	for range 2 {
		_, err = tx.ExecContext(asUser(1), "UPDATE t SET v = 1")
		must(t, err)
	}
	_, err = tx.ExecContext(asUser(2), "UPDATE t SET v = 1")
	must(t, err)
	for user := 1; user <= 2; user++ {
		if _, err := db.QueryContext(asUser(user), "SELECT 1"); !errors.Is(err, ErrLockTimeout) {
			t.Errorf("user %d beside the transaction: got %v, want ErrLockTimeout", user, err)
		}
	}
	must(t, tx.Rollback())
	_, err = db.ExecContext(asUser(1), "UPDATE t SET v = 1")
	must(t, err)

	tx, err = db.BeginTx(asUser(1), nil)
	must(t, err)
	_, err = tx.ExecContext(asUser(2), "UPDATE t SET v = 1")
	must(t, err)
	_, err = db.ExecContext(asUser(2), "UPDATE t SET v = 1")
	must(t, err)
	must(t, tx.Commit())
}

func TestReadOnlyTxRefusesWrites(t *testing.T) {
	db := openStub(t, &stub{})
	tx, err := db.BeginTx(asUser(1), &sql.TxOptions{ReadOnly: true})
	must(t, err)
	if _, err := tx.Exec("UPDATE t SET v = 1"); !errors.Is(err, ErrReadOnly) {
		t.Errorf("Exec: got %v, want ErrReadOnly", err)
	}
	var v int
	must(t, tx.QueryRow("SELECT v FROM t").Scan(&v))
	must(t, tx.Commit())
}

// TestWaitEndsWithItsContext: the error names what was waited for and what was
// in the way, and nothing is left of the wait.
func TestWaitEndsWithItsContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := openStub(t, &stub{})
		tx, err := db.BeginTx(asUser("ann"), nil)
		must(t, err)
		for _, tc := range []struct {
			want error
			ctx  func() (context.Context, context.CancelFunc)
		}{
			{ErrLockTimeout, func() (context.Context, context.CancelFunc) { return asUser("ann"), func() {} }},
			{context.DeadlineExceeded, func() (context.Context, context.CancelFunc) {
				return context.WithTimeout(asUser("ann"), time.Second)
			}},
			{context.Canceled, func() (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancel(asUser("ann"))
				time.AfterFunc(time.Second, cancel)
				return ctx, cancel
			}},
		} {
			ctx, cancel := tc.ctx()
			start := time.Now()
			_, err := db.ExecContext(ctx, "UPDATE t SET v = 1")
			cancel()
			var lockErr *LockError
			if !errors.As(err, &lockErr) || !errors.Is(err, tc.want) {
				t.Fatalf("got %v, want a LockError for %v", err, tc.want)
			}
			if lockErr.User != "ann" || lockErr.Mode != Exclusive || lockErr.Waited != time.Since(start) {
				t.Errorf("got %+v, want user ann, exclusive, %v", lockErr, time.Since(start))
			}
			for _, part := range []string{`the exclusive lock of user "ann"`, "in the way: transaction", "(exclusive) for"} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the error does not say %q: %v", part, err)
				}
			}
		}
		must(t, tx.Commit())
		_, err = db.ExecContext(asUser("ann"), "UPDATE t SET v = 1")
		must(t, err)
	})
}

// TestContextsEndEverywhere ends a context while its operation waits for a
// statement, reads rows, or is in a transaction: the lock is free afterwards.
func TestContextsEndEverywhere(t *testing.T) {
	untilDone := func(ctx context.Context, _ string) error {
		<-ctx.Done()
		return ctx.Err()
	}
	for _, tc := range []struct {
		name string
		run  func(ctx context.Context, db *sql.DB, s *stub) (after func() error)
	}{
		{"in an Exec", func(ctx context.Context, db *sql.DB, s *stub) func() error {
			s.run = untilDone
			_, err := db.ExecContext(ctx, "UPDATE t SET v = 1")
			s.run = nil
			return func() error { return err }
		}},
		{"in a Query", func(ctx context.Context, db *sql.DB, s *stub) func() error {
			s.run = untilDone
			_, err := db.QueryContext(ctx, "SELECT v FROM t")
			s.run = nil
			return func() error { return err }
		}},
		{"in Rows", func(ctx context.Context, db *sql.DB, s *stub) func() error {
			rows, err := db.QueryContext(ctx, "SELECT v FROM t")
			if err != nil {
				return func() error { return err }
			}
			return rows.Err
		}},
		{"in a Tx", func(ctx context.Context, db *sql.DB, s *stub) func() error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return func() error { return err }
			}
			return func() error {
				if err := tx.Commit(); err != sql.ErrTxDone {
					return err
				}
				return context.DeadlineExceeded
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := &stub{}
				db := openStub(t, s, LockTimeout(0))
				ctx, cancel := context.WithTimeout(asUser(1), time.Second)
				defer cancel()
				after := tc.run(ctx, db, s)
				<-ctx.Done()
				synctest.Wait()
				_, err := db.ExecContext(asUser(1), "UPDATE t SET v = 1")
				if err != nil {
					t.Errorf("the lock outlived the context: %v", err)
				}
				if err := after(); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v, want context.DeadlineExceeded", err)
				}
			})
		})
	}
}

// TestCloseEndsWaits: who waits for a lock or a connection when the handle is
// closed learns so, and those who run finish.
func TestCloseEndsWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := openStub(t, &stub{}, MaxOpenConns(1))
		tx, err := db.BeginTx(asUser(1), nil)
		must(t, err)
		errs := make(chan error, 2)
		for user := 1; user <= 2; user++ { // 1 waits for the lock, 2 for the connection
			go func() {
				_, err := db.ExecContext(asUser(user), "UPDATE t SET v = 1")
				errs <- err
			}()
		}
		synctest.Wait()
		must(t, db.Close())
		for range 2 {
			if err := <-errs; err == nil || err.Error() != "sql: database is closed" {
				t.Errorf("a waiter got %v, want sql: database is closed", err)
			}
		}
		_, err = tx.Exec("UPDATE t SET v = 1")
		must(t, err)
		must(t, tx.Commit())
	})
}

func TestPanicsLeaveTheLockFree(t *testing.T) {
	panics := func(context.Context, string) error { panic("inner driver") }
	for name, run := range map[string]func(db *sql.DB, s *stub){
		"in Exec":  func(db *sql.DB, s *stub) { s.run = panics; db.ExecContext(asUser(1), "UPDATE t SET v = 1") },
		"in Query": func(db *sql.DB, s *stub) { s.run = panics; db.QueryContext(asUser(1), "SELECT 1") },
		"in Begin": func(db *sql.DB, s *stub) { s.run = panics; db.BeginTx(asUser(1), nil) },
		"in the program, beside Rows": func(db *sql.DB, s *stub) {
			rows, _ := db.QueryContext(asUser(1), "SELECT 1")
			defer rows.Close()
			panic("program")
		},
		"in the program, in a Tx": func(db *sql.DB, s *stub) {
			tx, _ := db.BeginTx(asUser(1), nil)
			defer tx.Rollback()
			panic("program")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &stub{}
			db := openStub(t, s, LockTimeout(0))
			func() {
				defer func() {
					if recover() == nil {
						t.Error("the panic did not come through")
					}
				}()
				run(db, s)
			}()
			s.run = nil
			if _, err := db.ExecContext(asUser(1), "UPDATE t SET v = 1"); err != nil {
				t.Errorf("after the panic: %v", err)
			}
		})
	}
}

// TestWaitersHoldNoConnection has 500 requests of one user wait, with room for
// four server connections: all the while strangers are served.
func TestWaitersHoldNoConnection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := &stub{}
		db := openStub(t, s, MaxOpenConns(4))
		tx, err := db.BeginTx(asUser("hot"), nil)
		must(t, err)
		var served atomic.Int64
		for range 500 {
			go func() {
				if _, err := db.ExecContext(asUser("hot"), "UPDATE t SET v = 1"); err != nil {
					t.Errorf("a waiter: %v", err)
				}
				served.Add(1)
			}()
		}
		synctest.Wait()
		if n := s.open.Load(); n != 1 {
			t.Errorf("500 waiters and a transaction have %d server connections, want 1", n)
		}
		for i := range 20 {
			if _, err := db.ExecContext(asUser(i), "UPDATE t SET v = 1"); err != nil {
				t.Errorf("a stranger: %v", err)
			}
		}
		must(t, tx.Commit())
		synctest.Wait()
		if n := served.Load(); n != 500 {
			t.Errorf("%d of 500 waiters were served", n)
		}
	})
}

// TestConnectionsFirstComeFirstServed: the inner pool would wake a random waiter.
func TestConnectionsFirstComeFirstServed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var order []string
		s := &stub{run: func(_ context.Context, query string) error {
			order = append(order, query)
			return nil
		}}
		db := openStub(t, s, MaxOpenConns(1))
		tx, err := db.Begin()
		must(t, err)
		order = nil
		var want []string
		for i := range 50 {
			query := fmt.Sprintf("UPDATE t SET v = %d", i)
			want = append(want, query)
			go db.ExecContext(asUser(i), query)
			synctest.Wait()
		}
		must(t, tx.Commit())
		synctest.Wait()
		if got := strings.Join(order, "\n"); got != strings.Join(want, "\n") {
			t.Errorf("served in the order\n%s", got)
		}
		if n := s.mostOpen.Load(); n != 1 {
			t.Errorf("%d connections were open at a time, want 1", n)
		}
	})
}

func TestWaitForConnectionNamesTheOption(t *testing.T) {
	db := openStub(t, &stub{}, MaxOpenConns(1), LockTimeout(0))
	tx, err := db.BeginTx(asUser(1), nil)
	must(t, err)
	_, err = db.ExecContext(asUser(2), "UPDATE t SET v = 1")
	if !errors.Is(err, ErrLockTimeout) || !strings.Contains(err.Error(), "max_open_conns") {
		t.Errorf("got %v, want ErrLockTimeout and the name max_open_conns", err)
	}
	must(t, tx.Commit())
}

func TestStatementTimeoutByContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := &stub{run: func(ctx context.Context, _ string) error {
			<-ctx.Done()
			return ctx.Err()
		}}
		db := openStub(t, s, StatementTimeout(3*time.Second))
		start := time.Now()
		_, err := db.Exec("UPDATE t SET v = 1")
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "statement_timeout=3s") || time.Since(start) != 3*time.Second {
			t.Errorf("got %v after %v, want context.DeadlineExceeded after 3s", err, time.Since(start))
		}
		s.run = nil
		rows, err := db.Query("SELECT v FROM t")
		must(t, err)
		if !rows.Next() {
			t.Errorf("rows ended early: %v", rows.Err())
		}
		must(t, rows.Close())
	})
}

// TestPreparedWaitersHoldNoConnection: to prepare a statement takes a connection,
// which goes back before the statement waits for a lock.
func TestPreparedWaitersHoldNoConnection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := &stub{}
		db := openStub(t, s, MaxOpenConns(4))
		stmt, err := db.Prepare("UPDATE t SET v = 1")
		must(t, err)
		tx, err := db.BeginTx(asUser("hot"), nil)
		must(t, err)
		var served atomic.Int64
		for range 100 {
			go func() {
				if _, err := stmt.ExecContext(asUser("hot")); err != nil {
					t.Errorf("a waiter: %v", err)
				}
				served.Add(1)
			}()
		}
		synctest.Wait()
		start := time.Now()
		for i := range 20 {
			if _, err := stmt.ExecContext(asUser(i)); err != nil {
				t.Errorf("a stranger: %v", err)
			}
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("strangers waited %v", waited)
		}
		must(t, tx.Commit())
		synctest.Wait()
		if n := served.Load(); n != 100 {
			t.Errorf("%d of 100 waiters were served", n)
		}
		must(t, stmt.Close())
	})
}

// TestTransactionsOnOneConnection nest, and end in any order; some engines allow it.
func TestTransactionsOnOneConnection(t *testing.T) {
	db := openStub(t, &stub{}, LockTimeout(0))
	ctx := asUser(1)
	conn, err := db.Conn(ctx)
	must(t, err)
	outer, err := conn.BeginTx(ctx, nil)
	must(t, err)
	inner, err := conn.BeginTx(ctx, nil)
	must(t, err)
	_, err = inner.ExecContext(ctx, "UPDATE t SET v = 1")
	must(t, err)
	must(t, outer.Commit())
	must(t, inner.Commit())
	must(t, conn.Close())
	for range 3 { // some of these get the connection that had the transactions
		tx, err := db.BeginTx(asUser(2), nil)
		must(t, err)
		if _, err := db.QueryContext(asUser(2), "SELECT v FROM t"); !errors.Is(err, ErrLockTimeout) {
			t.Errorf("a later user works without a lock: %v", err)
		}
		must(t, tx.Commit())
	}
}

// TestPanicInConnectLeavesNothing of ours; the inner sql.DB goes on to count the
// connection that was not made, as a bare one does.
func TestPanicInConnectLeavesNothing(t *testing.T) {
	s := &stub{}
	db := openStub(t, s, MaxOpenConns(2), LockTimeout(0))
	s.connect = func() { panic("inner driver") }
	func() {
		defer func() { recover() }()
		db.ExecContext(asUser(1), "UPDATE t SET v = 1")
	}()
	s.connect = nil
	for range 3 {
		_, err := db.ExecContext(asUser(1), "UPDATE t SET v = 1")
		must(t, err)
	}
}

// TestReadOnlyTxAllowsReads, by whatever method.
func TestReadOnlyTxAllowsReads(t *testing.T) {
	db := openStub(t, &stub{}, Dialect("sqlite"))
	tx, err := db.BeginTx(asUser(1), &sql.TxOptions{ReadOnly: true})
	must(t, err)
	for _, query := range []string{"SELECT 1", "SAVEPOINT a", "RELEASE a"} {
		if _, err := tx.Exec(query); err != nil {
			t.Errorf("%s: %v", query, err)
		}
	}
	must(t, tx.Commit())
}

func TestBadUserInTransaction(t *testing.T) {
	db := openStub(t, &stub{})
	tx, err := db.BeginTx(asUser(1), nil)
	must(t, err)
	if _, err := tx.ExecContext(asUser(""), "UPDATE t SET v = 1"); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Errorf("got %v, want an error that says the ID is empty", err)
	}
	must(t, tx.Commit())
}

// TestSessionOutlivesWaits: a connection that has a session, here one that it got in
// place of a stale one, stays with it while its next statement waits for a lock.
func TestSessionOutlivesWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		stale := true
		s := &stub{run: func(_ context.Context, query string) error {
			if query == "SET x = 1" && stale {
				stale = false
				return driver.ErrBadConn
			}
			return nil
		}}
		db := openStub(t, s, MaxOpenConns(2))
		must(t, db.Ping()) // so that the next connection is a used one
		conn, err := db.Conn(t.Context())
		must(t, err)
		_, err = conn.ExecContext(t.Context(), "SET x = 1")
		must(t, err)
		tx, err := db.BeginTx(asUser(1), nil)
		must(t, err)
		waited := make(chan error)
		go func() {
			_, err := conn.ExecContext(asUser(1), "UPDATE t SET v = 1")
			waited <- err
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := db.ExecContext(ctx, "UPDATE t SET v = 1"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a stranger beside two connections that are in use: got %v, want context.DeadlineExceeded", err)
		}
		must(t, tx.Commit())
		must(t, <-waited)
		must(t, conn.Close())
	})
}
