package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/calmdocs/dblocker/internal/postgres"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// isFree tells whether the exclusive lock of a user can be had at once by a stranger.
func isFree(t testing.TB, db *sql.DB, user any) bool {
	t.Helper()
	_, unlock, err := TryLock(asUser(user), db)
	unlock()
	if err != nil && !errors.Is(err, ErrLockTimeout) {
		t.Fatal(err)
	}
	return err == nil
}

// begin begins a section and fails the test if it cannot.
func beginTest(t testing.TB, lock func(context.Context, Handle, ...SectionOption) (context.Context, func(), error), ctx context.Context, db Handle) (context.Context, func()) {
	t.Helper()
	ctx, unlock, err := lock(ctx, db)
	must(t, err)
	return ctx, unlock
}

// TestSectionModes has a section beside another, and beside each operation, of the
// same user: they are together only if both are shared.
func TestSectionModes(t *testing.T) {
	sections := []struct {
		mode Mode
		lock func(context.Context, Handle, ...SectionOption) (context.Context, func(), error)
	}{{Exclusive, TryLock}, {Shared, TryRLock}}
	for _, first := range sections {
		db := openStub(t, &stub{}, LockTimeout(0))
		_, unlock := beginTest(t, first.lock, asUser(1), db)
		for _, second := range sections {
			_, unlock, err := second.lock(asUser(1), db)
			if together := err == nil; together != (first.mode == Shared && second.mode == Shared) {
				t.Errorf("a %v and a %v section of one user: together is %v", first.mode, second.mode, together)
			}
			unlock()
		}
		for _, op := range operations {
			end, err := op.run(asUser(1), db)
			if together := err == nil; together != (first.mode == Shared && op.mode == Shared) {
				t.Errorf("a %v section and %s of one user: together is %v", first.mode, op.name, together)
			}
			if err == nil {
				must(t, end())
			}
			end, err = op.run(asUser(2), db)
			must(t, err)
			must(t, end())
		}
		unlock()
		if !isFree(t, db, 1) {
			t.Errorf("the lock is still taken after the unlock of a %v section", first.mode)
		}
	}
}

// TestInsideExclusiveSection runs everything at once inside one section, on contexts
// that come from it.
func TestInsideExclusiveSection(t *testing.T) {
	db := openStub(t, &stub{}, LockTimeout(0))
	ctx, unlock := beginTest(t, Lock, asUser(1), db)
	var ends []func() error
	for _, ctx := range []context.Context{ctx, context.WithValue(ctx, new(int), nil), WithUser(ctx, 1), Fork(ctx)} {
		for _, op := range operations {
			end, err := op.run(ctx, db)
			if err != nil {
				t.Fatalf("%s: %v", op.name, err)
			}
			ends = append(ends, end)
		}
		_, err := db.ExecContext(ctx, "UPDATE t SET v = 1")
		must(t, err)
	}
	for _, end := range ends {
		must(t, end())
	}
	unlock()
	if !isFree(t, db, 1) {
		t.Error("the lock is still taken")
	}
}

// TestUnlockEndsWhatIsOpen: when unlock returns, and no call is running, everything
// that was left open inside is ended and the lock is free.
func TestUnlockEndsWhatIsOpen(t *testing.T) {
	for _, op := range operations {
		s := &stub{}
		db := openStub(t, s)
		ctx, unlock := beginTest(t, Lock, asUser(1), db)
		end, err := op.run(ctx, db)
		must(t, err)
		unlock()
		if !isFree(t, db, 1) {
			t.Errorf("%s: the lock is still taken after unlock", op.name)
		}
		unlock()
		if err := ctx.Err(); err != ErrReleased {
			t.Errorf("the context's error is %v", err)
		}
		if _, err := op.run(ctx, db); !errors.Is(err, ErrReleased) {
			t.Errorf("%s with the context of a section that has ended: %v", op.name, err)
		}
		end()
		waitFor(t, func() bool { return db.Stats().InUse == 0 })
	}
}

// TestUnlockDuringACall does not wait for it, and the lock passes on when it has
// returned.
func TestUnlockDuringACall(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := &stub{}
		db := openStub(t, s)
		inCall, returnNow := make(chan bool), make(chan bool)
		s.run = func(context.Context, string) error {
			inCall <- true
			<-returnNow
			return nil
		}
		ctx, unlock := beginTest(t, Lock, asUser(1), db)
		done := make(chan error)
		go func() {
			_, err := db.ExecContext(ctx, "UPDATE t SET v = 1")
			done <- err
		}()
		<-inCall
		unlock()
		if isFree(t, db, 1) {
			t.Error("the lock passed on while a call was running")
		}
		close(returnNow)
		must(t, <-done)
		if !isFree(t, db, 1) {
			t.Error("the lock did not pass on when the call returned")
		}
	})
}

// TestUnlockInterruptsACall, since its context is done then, though the one that the section was
// made from can never be: so the lock soon passes on.
func TestUnlockInterruptsACall(t *testing.T) {
	endless := map[string]string{
		"sqlite":   "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT COUNT(*) FROM c",
		"postgres": "SELECT COUNT(*) FROM pg_sleep(300)",
		"mysql":    "SELECT SLEEP(300)",
	}
	onEngines(t, "", func(t *testing.T, db *sql.DB, c *Connector) {
		ctx, unlock := beginTest(t, RLock, asUser(1), db)
		done := make(chan error)
		go func() { done <- db.QueryRowContext(ctx, endless[c.engine.Name]).Scan(new(int)) }()
		waitFor(t, func() bool { return statsOf(t, c).InUse == 1 })
		if c.engine == postgres.Engine { // which forgets to cancel what it has not begun
			waitFor(t, func() bool {
				var n int
				must(t, db.QueryRow("SELECT COUNT(*) FROM pg_stat_activity WHERE state = 'active' AND datname = current_database() AND query = $1",
					endless["postgres"]).Scan(&n))
				return n == 1
			})
		}
		unlock()
		if err := <-done; err == nil {
			t.Error("a statement without end has ended well")
		}
		waitFor(t, func() bool { return isFree(t, db, 1) })
	})
}

// TestSectionIsCheap: that is, at most 20 allocations more than its only statement has.
func TestSectionIsCheap(t *testing.T) {
	request, cancel := context.WithCancel(context.Background())
	defer cancel()
	db, err := sql.Open("sqlite3-dblocker", testdb.SQLite(t))
	must(t, err)
	defer db.Close()
	for name, parent := range map[string]context.Context{"background": context.Background(), "request": request} {
		query := func(ctx context.Context) error { return db.QueryRowContext(ctx, "SELECT 1").Scan(new(int)) }
		alone := testing.AllocsPerRun(200, func() { must(t, query(WithUser(parent, 1))) })
		inside := testing.AllocsPerRun(200, func() { must(t, RDo(WithUser(parent, 1), db, query)) })
		if more := inside - alone; more > 20 {
			t.Errorf("%s: a section has %v allocations, its statement alone %v", name, inside, alone)
		} else {
			t.Logf("%s: a section has %v allocations more", name, more)
		}
	}
}

// TestSectionEndsWithContext, however that ends.
func TestSectionEndsWithContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := openStub(t, &stub{})
		ctx, cancel := context.WithTimeout(asUser(1), time.Second)
		defer cancel()
		ctx, unlock := beginTest(t, Lock, ctx, db)
		tx, err := db.BeginTx(ctx, nil)
		must(t, err)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !isFree(t, db, 1) {
			t.Error("the lock outlived the section's context")
		}
		if err := ctx.Err(); err != context.DeadlineExceeded {
			t.Errorf("the context's error is %v", err)
		}
		if err := tx.Commit(); err == nil {
			t.Error("a transaction outlived its section")
		}
		unlock()
	})
}

// TestTryLockNamesTheHolder, and no timeout, since it does not wait.
func TestTryLockNamesTheHolder(t *testing.T) {
	db := openStub(t, &stub{})
	_, unlock := beginTest(t, Lock, asUser(1), db)
	defer unlock()
	_, _, err := TryRLock(asUser(1), db)
	const want = `dblocker: did not wait for the shared lock of user "1"; in the way: section, which has held it (exclusive) for `
	if !errors.Is(err, ErrLockTimeout) || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %q, want %q", err, want)
	}
}

// TestCloseEndsNoSection: another handle on the database waits for it as before.
func TestCloseEndsNoSection(t *testing.T) {
	path := testdb.SQLite(t)
	db, other := openSQLite(t, "dblocker", "sqlite3:"+path), openSQLite(t, "dblocker", "sqlite3:"+path)
	ctx, unlock := beginTest(t, Lock, asUser(1), db)
	must(t, db.Close())
	if ctx.Err() != nil || isFree(t, other, 1) {
		t.Errorf("Close ended the section: %v", ctx.Err())
	}
	unlock()
	if !isFree(t, other, 1) {
		t.Error("the lock outlived the section")
	}
}

func TestPanicLeavesLockFree(t *testing.T) {
	db := openStub(t, &stub{})
	for _, do := range []func(context.Context, Handle, func(context.Context) error, ...SectionOption) error{Do, RDo} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			do(asUser(1), db, func(ctx context.Context) error {
				_, err := db.BeginTx(ctx, nil)
				must(t, err)
				panic("as a program does")
			})
		}()
		if !isFree(t, db, 1) {
			t.Error("the lock survived a panic")
		}
		waitFor(t, func() bool { return db.Stats().InUse == 0 })
	}
}

// TestSharedSectionRefusesWrites in whatever way they come.
func TestSharedSectionRefusesWrites(t *testing.T) {
	db := openStub(t, &stub{}, LockTimeout(0))
	ctx, unlock := beginTest(t, RLock, asUser(1), db)
	defer unlock()
	for _, ctx := range []context.Context{ctx, WithMode(ctx, Shared), WithUser(ctx, 1)} {
		if _, err := db.ExecContext(ctx, "UPDATE t SET v = 1"); !errors.Is(err, ErrReadOnly) {
			t.Errorf("Exec: %v", err)
		}
		if _, err := db.QueryContext(ctx, "UPDATE t SET v = 1 RETURNING v"); !errors.Is(err, ErrReadOnly) {
			t.Errorf("Query: %v", err)
		}
		tx, err := db.BeginTx(ctx, nil)
		must(t, err)
		if _, err := tx.Exec("UPDATE t SET v = 1"); !errors.Is(err, ErrReadOnly) {
			t.Errorf("Exec in a transaction: %v", err)
		}
		must(t, tx.QueryRow("SELECT v FROM t").Scan(new(int)))
		must(t, tx.Commit())
		must(t, db.QueryRowContext(ctx, "SELECT v FROM t").Scan(new(int)))
	}
	if _, err := db.QueryContext(WithMode(ctx, Exclusive), "SELECT f()"); !errors.Is(err, ErrReadOnly) {
		t.Errorf("a Query that is said to write: %v", err)
	}
	_, err := db.ExecContext(WithUser(ctx, 2), "UPDATE t SET v = 1")
	must(t, err)
}

func TestNestedSections(t *testing.T) {
	db := openStub(t, &stub{}, LockTimeout(0))
	outer, unlockOuter := beginTest(t, Lock, asUser(1), db)
	inner, unlockInner := beginTest(t, Lock, outer, db)
	reading, unlockReading := beginTest(t, RLock, inner, db)
	if _, err := db.ExecContext(reading, "DELETE FROM t"); !errors.Is(err, ErrReadOnly) {
		t.Errorf("a write in a shared section inside an exclusive one: %v", err)
	}
	if _, _, err := Lock(reading, db); !errors.Is(err, ErrReadOnly) {
		t.Errorf("an exclusive section inside a shared one: %v", err)
	}
	unlockReading()
	unlockInner()
	if isFree(t, db, 1) {
		t.Error("the end of an inner section has released the outer one's lock")
	}
	if _, err := db.ExecContext(inner, "DELETE FROM t"); !errors.Is(err, ErrReleased) {
		t.Errorf("after the end of the inner section: %v", err)
	}
	_, err := db.ExecContext(outer, "DELETE FROM t")
	must(t, err)
	inner, unlockInner = beginTest(t, Lock, outer, db)
	unlockOuter()
	if err := inner.Err(); err != ErrReleased {
		t.Errorf("the inner section outlives the outer one: %v", err)
	}
	if !isFree(t, db, 1) {
		t.Error("the lock is still taken")
	}
	unlockInner()
}

// TestSectionOfAnotherUserInside takes that user's lock, which circles find.
func TestSectionOfAnotherUserInside(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := openStub(t, &stub{})
		a, unlockA := beginTest(t, Lock, asUser("a"), db)
		b, unlockB := beginTest(t, Lock, asUser("b"), db)
		var wg sync.WaitGroup
		var errs [2]error
		start := time.Now()
		wg.Go(func() { _, _, errs[0] = Lock(WithUser(a, "b"), db); unlockA() })
		wg.Go(func() { _, errs[1] = db.ExecContext(WithUser(b, "a"), "DELETE FROM t"); unlockB() })
		wg.Wait()
		if (errs[0] == nil) == (errs[1] == nil) || !errors.Is(errors.Join(errs[:]...), ErrDeadlock) {
			t.Errorf("want one deadlock, got %v", errs)
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("it took %v to find the deadlock", waited)
		}
	})
}

func TestLockUsers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := openStub(t, &stub{})
		var wg sync.WaitGroup
		inside := 0
		for i := range 20 {
			wg.Go(func() {
				ids := []any{1, "2", int64(3), 3, 1}
				if i%2 == 0 {
					ids = []any{3, 2, 1}
				}
				ctx, unlock, err := LockUsers(asUser(1), db, ids...)
				if err != nil {
					t.Error(err)
					return
				}
				defer unlock()
				if inside++; inside != 1 {
					t.Error("two sections of the same users at once")
				}
				for user := 1; user <= 3; user++ {
					if _, err := db.ExecContext(WithUser(ctx, user), "DELETE FROM t"); err != nil {
						t.Error(err)
					}
				}
				time.Sleep(time.Second)
				inside--
			})
		}
		wg.Wait()
		_, unlock, err := LockUsers(context.Background(), db, Tag("both"), 1, 2, Pin())
		must(t, err)
		if isFree(t, db, 2) || !isFree(t, db, 3) {
			t.Error("the wrong users are locked")
		}
		if _, _, err := TryLock(asUser(2), db); err == nil || !strings.Contains(err.Error(), "section, both") {
			t.Errorf("who is in the way is not named by its tag: %v", err)
		}
		unlock()
		for _, ids := range [][]any{nil, {Tag("nobody")}, {1, ""}, {1, 1.5}, {1, SectionOption(nil)}, {1, Tag}} {
			if _, unlock, err := LockUsers(asUser(1), db, ids...); err == nil || unlock == nil {
				t.Errorf("LockUsers(%v): %v", ids, err)
			}
		}
	})
}

// TestLockAll waits for those who came before and keeps out those who come later,
// whether they have a lock already or not.
func TestLockAll(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := openStub(t, &stub{})
		var order []string
		var wg sync.WaitGroup
		run := func(name string, lock func() (func(), error)) {
			wg.Go(func() {
				unlock, err := lock()
				if err != nil {
					t.Error(name, err)
					return
				}
				order = append(order, name)
				time.Sleep(time.Second)
				unlock()
			})
			synctest.Wait()
		}
		all := func() (func(), error) { _, unlock, err := LockAll(context.Background(), db); return unlock, err }
		one := func(user any) func() (func(), error) {
			return func() (func(), error) { _, unlock, err := Lock(asUser(user), db); return unlock, err }
		}
		run("1", one(1))
		run("1 again", one(1))
		run("all", all)
		run("2", one(2))
		run("all again", all)
		run("3", one(3))
		wg.Wait()
		want := []string{"1", "1 again", "all", "2", "all again", "3"}
		for i := range want {
			if order[i] != want[i] {
				t.Fatalf("got %v, want %v", order, want)
			}
		}
		if n := len(lockTableOf(t, db).SnapshotAll()); n != 0 {
			t.Errorf("%d still have the lock of all users", n)
		}
	})
}

// TestLockAllInTheWay: who has a lock already is not kept waiting by LockAll, which
// waits for it; and what cannot go on is found out.
func TestLockAllInTheWay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := openStub(t, &stub{})
		ctx, unlock := beginTest(t, Lock, asUser(1), db)
		done := make(chan error)
		go func() {
			_, unlock, err := LockAll(context.Background(), db)
			unlock()
			done <- err
		}()
		synctest.Wait()
		start := time.Now()
		_, err := db.ExecContext(WithUser(ctx, 2), "DELETE FROM t")
		must(t, err)
		if waited := time.Since(start); waited != 0 {
			t.Errorf("a section waited %v for a LockAll that waits for it", waited)
		}
		unlock()
		must(t, <-done)
	})
}

func TestBadSections(t *testing.T) {
	db := openStub(t, &stub{})
	var nilDB *sql.DB
	bare, err := sql.Open("sqlite3", ":memory:")
	must(t, err)
	defer bare.Close()
	for _, tc := range []struct {
		name string
		ctx  context.Context
		db   Handle
		want error
	}{
		{"nil handle", asUser(1), nil, nil},
		{"nil *sql.DB", asUser(1), nilDB, nil},
		{"bare handle", asUser(1), bare, nil},
		{"no user", context.Background(), db, ErrNoUser},
		{"bad user", asUser(1.5), db, nil},
		{"nil context", nil, db, nil},
	} {
		ctx, unlock, err := Lock(tc.ctx, tc.db)
		if err == nil || tc.want != nil && !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", tc.name, err)
		}
		if ctx == nil || unlock == nil {
			t.Errorf("%s: context %v, unlock is nil: %v", tc.name, ctx, unlock == nil)
			continue
		}
		unlock()
		t.Log(err)
	}
}

// TestSectionsExcludeEachOther has sections of a few users end at any moment, in the
// middle of calls, beside open rows and transactions. Nothing of an exclusive section
// ever runs beside anything of another section of its user, and nothing is left.
func TestSectionsExcludeEachOther(t *testing.T) {
	const users, workers, rounds = 3, 8, 150
	testdb.NoLeaks(t)
	var mu sync.Mutex
	running := make(map[string]map[string]int) // by user, then by section
	s := &stub{run: func(_ context.Context, query string) error {
		_, of, found := strings.Cut(query, "-- ")
		if !found {
			return nil
		}
		user, section, _ := strings.Cut(of, " ")
		mu.Lock()
		if running[user] == nil {
			running[user] = make(map[string]int)
		}
		running[user][section]++
		for other := range running[user] {
			if other != section && (section[0] == 'w' || other[0] == 'w') {
				t.Errorf("user %s: %s runs beside %s", user, section, other)
			}
		}
		mu.Unlock()
		time.Sleep(50 * time.Microsecond)
		mu.Lock()
		defer mu.Unlock()
		if running[user][section]--; running[user][section] == 0 {
			delete(running[user], section)
		}
		return nil
	}}
	db := openStub(t, s)
	work := func(ctx context.Context, mark string) {
		rows, err := db.QueryContext(ctx, "SELECT v FROM t -- "+mark)
		if err == nil && rand.IntN(2) == 0 {
			rows.Close()
		}
		if tx, err := db.BeginTx(ctx, nil); err == nil {
			tx.Exec("UPDATE t SET v = 1 -- " + mark)
			if rand.IntN(2) == 0 {
				tx.Commit()
			}
		}
		db.ExecContext(ctx, "UPDATE t SET v = 1 -- "+mark)
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for round := range rounds {
				user := rand.IntN(users)
				lock, kind := Lock, "w"
				if rand.IntN(3) == 0 {
					lock, kind = RLock, "r"
				}
				ctx, unlock, err := lock(asUser(user), db)
				if err != nil {
					t.Error(err)
					return
				}
				mark := fmt.Sprintf("%d %s%d-%d", user, kind, w, round)
				for range 2 {
					wg.Go(func() { work(ctx, mark) })
				}
				time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond)
				unlock()
			}
		})
	}
	wg.Wait()
	waitFor(t, func() bool { return db.Stats().InUse == 0 })
	for user := range users {
		if !isFree(t, db, user) {
			t.Errorf("the lock of user %d is still taken", user)
		}
	}
}

// TestFunctionOfNil is refused before a lock is taken.
func TestFunctionOfNil(t *testing.T) {
	db := openStub(t, &stub{})
	store, err := New(t.Context(), "sqlite3", ":memory:", false)
	must(t, err)
	defer store.Close()
	for i, err := range []error{
		Do(asUser(1), db, nil), RDo(asUser(1), db, nil),
		store.ReadDo(1, t.Context(), "x", nil), store.RWDo(1, t.Context(), "x", nil),
	} {
		if err != errNilFunc {
			t.Errorf("%d: %v", i, err)
		}
	}
}
