package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// again returns the context of a request as an inner layer of it tags it.
var again = map[string]func(ctx context.Context) context.Context{
	"for the same user":  func(ctx context.Context) context.Context { return WithUser(ctx, 1) },
	"twice":              func(ctx context.Context) context.Context { return WithUser(WithUser(ctx, 1), 1) },
	"by way of another":  func(ctx context.Context) context.Context { return WithUser(WithUser(ctx, 2), 1) },
	"by UserKey inside":  func(ctx context.Context) context.Context { return other(WithUser(ctx, 2), "1") },
	"with a value since": func(ctx context.Context) context.Context { return WithUser(context.WithValue(ctx, new(int), nil), 1) },
}

// TestRequestTaggedAgain is still one request: the inner context works beside what the outer
// one has, and the outer one beside what the inner one has.
func TestRequestTaggedAgain(t *testing.T) {
	readOnly := &sql.TxOptions{ReadOnly: true}
	for name, tag := range again {
		for _, tc := range []struct {
			name          string
			first, second func(context.Context, *sql.DB) (func() error, error)
		}{
			{"an Exec in rows", openRows("SELECT v FROM t"), exec},
			{"a query beside a transaction", begin(nil), openRows("SELECT v FROM t")},
			{"an Exec beside a transaction", begin(nil), exec},
			{"a read-only transaction beside a transaction", begin(nil), begin(readOnly)},
			{"an Exec in a section", lockingSection, exec},
		} {
			for _, outerFirst := range []bool{true, false} {
				t.Run(name+", "+tc.name, func(t *testing.T) {
					db := openStub(t, &stub{}, LockTimeout(0))
					outer := asUser(1)
					ctxs := [2]context.Context{outer, tag(outer)}
					if !outerFirst {
						ctxs[0], ctxs[1] = ctxs[1], ctxs[0]
					}
					endFirst, err := tc.first(ctxs[0], db)
					must(t, err)
					endSecond, err := tc.second(ctxs[1], db)
					must(t, err)
					for name, stranger := range map[string]context.Context{"fork": Fork(ctxs[1]), "request": asUser(1)} {
						if _, err := db.ExecContext(stranger, "UPDATE t SET v = 1"); !errors.Is(err, ErrLockTimeout) {
							t.Errorf("another %s was let in: %v", name, err)
						}
					}
					must(t, endSecond())
					must(t, endFirst())
				})
			}
		}
	}
}

// lockingSection begins a section, and does not use its context.
func lockingSection(ctx context.Context, db *sql.DB) (func() error, error) {
	_, unlock, err := Lock(ctx, db)
	return func() error { unlock(); return nil }, err
}

// TestRequestsOfOneProgram: two contexts that are made from one are two requests, though that
// one has a user too.
func TestRequestsOfOneProgram(t *testing.T) {
	db := openStub(t, &stub{}, LockTimeout(0))
	program := asUser("program")
	one, two := WithUser(program, 1), WithUser(program, 1)
	tx, err := db.BeginTx(one, nil)
	must(t, err)
	if _, err := db.ExecContext(two, "UPDATE t SET v = 1"); !errors.Is(err, ErrLockTimeout) {
		t.Errorf("the other request was let in: %v", err)
	}
	_, err = db.ExecContext(other(program, "1"), "UPDATE t SET v = 1")
	must(t, err)
	must(t, tx.Commit())
}

// TestSiblingsAreToldOfEachOther: who tags a request's context anew for each step learns why
// the steps wait for each other.
func TestSiblingsAreToldOfEachOther(t *testing.T) {
	db := openStub(t, &stub{}, LockTimeout(0))
	request := asUser(1)
	tx, err := db.BeginTx(WithUser(request, 1), nil)
	must(t, err)
	_, err = db.ExecContext(WithUser(request, 1), "UPDATE t SET v = 1")
	if !errors.Is(err, ErrLockTimeout) || !strings.Contains(err.Error(), "if they are one, tag that once") {
		t.Errorf("a sibling got %v", err)
	}
	_, err = db.ExecContext(asUser(1), "UPDATE t SET v = 1")
	if !errors.Is(err, ErrLockTimeout) || strings.Contains(err.Error(), "tag that once") {
		t.Errorf("a stranger got %v", err)
	}
	must(t, tx.Commit())
}

// TestRequestsTaggedAgainInACircle: each has a user, and wants the other's with a context that it
// has tagged again, or the other way round. It is not certain that they are stuck; when it
// has lasted for self_wait, one is refused.
func TestRequestsTaggedAgainInACircle(t *testing.T) {
	for _, innerFirst := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			db := openStub(t, &stub{})
			results := make(chan error, 2)
			start := time.Now()
			for i := range 2 {
				go func() {
					first := asUser(1 + i)
					second := WithUser(first, 2-i)
					if innerFirst {
						first, second = second, first
					}
					tx, err := db.BeginTx(first, nil)
					time.Sleep(time.Second)
					if err == nil {
						_, err = db.ExecContext(second, "UPDATE t SET v = 1")
						tx.Rollback()
					}
					results <- err
				}()
			}
			refused := 0
			for range 2 {
				if err := <-results; errors.Is(err, ErrDeadlock) {
					refused++
				} else if err != nil {
					t.Error(err)
				}
			}
			if took := time.Since(start); refused != 1 || took > 11*time.Second {
				t.Errorf("%d of 2 were refused, after %v", refused, took)
			}
		})
	}
}

// TestConnectionsPinnedByRequestsTaggedAgain: all connections are held by transactions whose
// requests wait for another one with a context that they have tagged again.
func TestConnectionsPinnedByRequestsTaggedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const n = 3
		db := openStub(t, &stub{}, MaxOpenConns(n))
		results := make(chan error, n)
		for i := range n {
			go func() {
				ctx := asUser(1 + i)
				tx, err := db.BeginTx(ctx, nil)
				time.Sleep(time.Second)
				if err == nil {
					_, err = db.ExecContext(WithUser(ctx, 1+i), "UPDATE t SET v = 1")
					tx.Rollback()
				}
				results <- err
			}()
		}
		start, refused := time.Now(), 0
		for range n {
			if err := <-results; errors.Is(err, ErrDeadlock) {
				refused++
			} else if err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(start); refused == 0 || took > 11*time.Second {
			t.Errorf("%d of %d were refused, after %v", refused, n, took)
		}
	})
}

// TestRequestBesideTheWorkOfItsProgram: what is done with the context from which a request's was
// made may be other work. While it goes on it is waited for as a stranger's would be, also at
// SQLite's gate.
func TestRequestBesideTheWorkOfItsProgram(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := openStub(t, &stub{run: func(context.Context, string) error {
			time.Sleep(time.Second)
			return nil
		}})
		program := asUser(1)
		tx, err := db.BeginTx(program, nil)
		must(t, err)
		done := make(chan error)
		go func() {
			tx, err := db.BeginTx(WithUser(program, 1), nil)
			if err == nil {
				err = tx.Rollback()
			}
			done <- err
		}()
		for range 20 {
			_, err := tx.Exec("UPDATE t SET v = 1")
			must(t, err)
		}
		must(t, tx.Commit())
		must(t, <-done)
	})
	t.Run("gate", func(t *testing.T) {
		const selfWait = 3 * time.Second
		db, err := sql.Open("dblocker", "sqlite3?self_wait="+selfWait.String()+":"+testdb.SQLite(t))
		must(t, err)
		defer db.Close()
		_, err = db.Exec("CREATE TABLE t (v INTEGER)")
		must(t, err)
		program := asUser("program")
		tx, err := db.BeginTx(program, nil)
		must(t, err)
		_, err = tx.Exec("INSERT INTO t VALUES (1)")
		must(t, err)
		done := make(chan error)
		go func() { done <- second(db.ExecContext(WithUser(program, 1), "INSERT INTO t VALUES (2)")) }()
		for until := time.Now().Add(selfWait * 3 / 2); time.Now().Before(until); {
			_, err := tx.Exec("UPDATE t SET v = v + 1")
			must(t, err)
		}
		must(t, tx.Commit())
		must(t, <-done)
	})
}

// TestLoopThatTagsItsContextAgain goes on for ever with one context, whose last owner is still
// the same request as the one before.
func TestLoopThatTagsItsContextAgain(t *testing.T) {
	db := openStub(t, &stub{}, LockTimeout(0))
	ctx := asUser(1)
	for range 100 {
		outer := ctx
		ctx = WithUser(ctx, 1)
		tx, err := db.BeginTx(ctx, nil)
		must(t, err)
		_, err = db.ExecContext(outer, "UPDATE t SET v = 1")
		must(t, err)
		must(t, tx.Commit())
	}
}

// TestOwnRowsMakeWayInARequestTaggedAgain: rows of the outer context, beside others' who write in
// theirs too, make way for a write of the inner one, and the other way round.
func TestOwnRowsMakeWayInARequestTaggedAgain(t *testing.T) {
	t.Run("outer rows", func(t *testing.T) {
		ownRowsMakeWay(t, func(ctx context.Context) (rows, write context.Context) { return ctx, WithUser(ctx, 1) })
	})
	t.Run("inner rows", func(t *testing.T) {
		ownRowsMakeWay(t, func(ctx context.Context) (rows, write context.Context) { return WithUser(ctx, 1), ctx })
	})
}

func ownRowsMakeWay(t *testing.T, tag func(ctx context.Context) (rows, write context.Context)) {
	onEngines(t, "lock_timeout=20s", func(t *testing.T, db *sql.DB, c *Connector) {
		ready, write, done := make(chan bool), make(chan bool), make(chan error, 2)
		for range 2 {
			go func() {
				reads, writes := tag(asUser(1))
				rows, err := db.QueryContext(reads, "SELECT id FROM counters ORDER BY id")
				ready <- true
				<-write
				if err == nil {
					defer rows.Close()
					rows.Next()
					_, err = db.ExecContext(writes, "UPDATE counters SET n = n + 1 WHERE id = '1'")
				}
				done <- err
			}()
		}
		<-ready
		<-ready
		start := time.Now()
		close(write)
		for range 2 {
			if err := <-done; err != nil {
				t.Errorf("after %v: %v", time.Since(start), err)
			}
		}
	})
}

// TestWaitForTheOwnRequestSaysSo: an inner transaction beside the outer one waits for
// self_wait, and the error says whose it is and how to get out.
func TestWaitForTheOwnRequestSaysSo(t *testing.T) {
	for _, innerFirst := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			db := openStub(t, &stub{})
			first := asUser(1)
			second := WithUser(first, 1)
			if innerFirst {
				first, second = second, first
			}
			tx, err := db.BeginTx(first, nil)
			must(t, err)
			start := time.Now()
			_, err = db.BeginTx(second, nil)
			if !errors.Is(err, ErrDeadlock) || time.Since(start) != 5*time.Second {
				t.Errorf("got %v after %v, want ErrDeadlock after 5s", err, time.Since(start))
			}
			for _, want := range []string{"transaction of the same request", "tagged again by dblocker.WithUser", "do this with the Tx", "dblocker.Fork"} {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q: %v", want, err)
				}
			}
			must(t, tx.Commit())
		})
	}
}

// TestInnerRowsAndOuterWrites: on SQLite, in each journal mode, a request writes with one of its
// contexts inside rows of the other.
func TestInnerRowsAndOuterWrites(t *testing.T) {
	for name, innerRows := range map[string]bool{"outer rows": false, "inner rows": true} {
		t.Run(name, func(t *testing.T) {
			onJournals(t, "lock_timeout=0&", func(t *testing.T, db *sql.DB, mode string) {
				reads := asUser(1)
				writes := WithUser(reads, 1)
				if innerRows {
					reads, writes = writes, reads
				}
				rows, err := db.QueryContext(reads, "SELECT id FROM counters")
				must(t, err)
				defer rows.Close()
				n := 0
				for ; rows.Next(); n++ {
					_, err := db.ExecContext(writes, "UPDATE counters SET n = n + 1 WHERE id = '1'")
					must(t, err)
				}
				must(t, rows.Err())
				if n != 4 {
					t.Errorf("%d rows of 4", n)
				}
			})
		})
	}
}

// TestForkInASectionStaysAFork: tagged again, it is still a stranger to the section's request.
func TestForkInASectionStaysAFork(t *testing.T) {
	db := openStub(t, &stub{}, LockTimeout(0))
	outer, unlock, err := Lock(asUser(1), db)
	must(t, err)
	defer unlock()
	_, unlock2, err := LockUsers(outer, db, 2)
	must(t, err)
	defer unlock2()
	for name, tc := range map[string]struct {
		ctx  context.Context
		want error
	}{
		"tagged in the section": {WithUser(outer, 2), nil},
		"forked":                {WithUser(Fork(outer), 2), ErrLockTimeout},
		"forked, tagged twice":  {WithUser(WithUser(Fork(outer), 3), 2), ErrLockTimeout},
		"tagged, then forked":   {Fork(WithUser(outer, 2)), ErrLockTimeout},
	} {
		if _, err := db.ExecContext(tc.ctx, "UPDATE t SET v = 1"); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
	}
}
