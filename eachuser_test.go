package dblocker_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/calmdocs/dblocker"
)

// TestDatabaseNames: an ID has one name, whatever its type, and the name has the ID.
func TestDatabaseNames(t *testing.T) {
	for _, c := range []struct {
		id         any
		name, user string
	}{
		{27, "u27", "27"},
		{int64(27), "u27", "27"},
		{"27", "u27", "27"},
		{"Ann", "u_ann", "Ann"},
		{[16]byte{0x55, 15: 1}, "u55000000__0000__0000__0000__000000000001", "55000000-0000-0000-0000-000000000001"},
		{"../x", "u_02e_02e_02fx", "../x"},
	} {
		name, err := dblocker.DatabaseName(c.id)
		if name != c.name || err != nil {
			t.Errorf("%v is %q, %v; want %q", c.id, name, err, c.name)
		}
		if user, ok := dblocker.UserOf(name); user != c.user || !ok {
			t.Errorf("%q is of %q, %v; want %q", name, user, ok, c.user)
		}
	}
	for _, id := range []any{nil, "", 1.5, (*int)(nil)} {
		if name, err := dblocker.DatabaseName(id); name != "" || err == nil {
			t.Errorf("%v has the name %q, %v; want an error", id, name, err)
		}
	}
	for _, name := range []string{"", "27", "u27.db", "U27", "data/u27", "u_041"} {
		if user, ok := dblocker.UserOf(name); ok {
			t.Errorf("%q is of %q", name, user)
		}
	}
}

// TestUserOfAContext: of the ID, whatever its type; also in a section. Of nobody, and of a bad ID, there is none.
func TestUserOfAContext(t *testing.T) {
	db, _ := tenantDB(t, "")
	for _, id := range []any{27, "27", int8(27)} {
		ctx := dblocker.WithUser(t.Context(), id)
		err := dblocker.Do(ctx, db, func(inside context.Context) error {
			for _, ctx := range []context.Context{ctx, inside} {
				if user, ok := dblocker.User(ctx); user != "27" || !ok {
					t.Errorf("%q, %v", user, ok)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	for _, ctx := range []context.Context{t.Context(), dblocker.WithUser(t.Context(), ""), dblocker.WithoutUser(as(t, "ann"))} {
		if user, ok := dblocker.User(ctx); user != "" || ok {
			t.Errorf("%q, %v", user, ok)
		}
	}
}

// TestEachUser: f runs once for each user who has a file, on the user's own database, under the exclusive lock; others are not kept from it by what fails.
func TestEachUser(t *testing.T) {
	db, _ := tenantDB(t, "?max_open_databases=2")
	users := []string{"ann", "bob", "Cid", "../x", "27"}
	for _, user := range users {
		noted(t, db, user)
	}
	var mu sync.Mutex
	var seen []string
	var done []dblocker.UserDone
	errBob := errors.New("no, says bob")
	err := dblocker.EachUser(t.Context(), db, func(ctx context.Context) error {
		user := note(t, db, ctx)
		if _, err := db.ExecContext(ctx, "INSERT INTO notes VALUES ('more')"); err != nil {
			t.Errorf("%s: %v", user, err)
		}
		mu.Lock()
		seen = append(seen, user)
		mu.Unlock()
		switch user {
		case "bob":
			return errBob
		case "Cid":
			panic("so says Cid")
		case "27":
			runtime.Goexit()
		}
		return nil
	}, dblocker.EachProgress(func(p dblocker.UserDone) { done = append(done, p) }), dblocker.EachParallel(3))
	slices.Sort(seen)
	slices.Sort(users)
	if !slices.Equal(seen, users) {
		t.Errorf("it ran for %q, want %q", seen, users)
	}
	var each *dblocker.EachError
	var one *dblocker.UserError
	if !errors.As(err, &each) || !errors.As(err, &one) || !errors.Is(err, errBob) {
		t.Fatalf("the error is %T: %v", err, err)
	}
	if len(each.Users) != 3 || each.Total != 5 || each.NotBegun != 0 || each.Err != nil {
		t.Errorf("%+v", each)
	}
	for _, words := range []string{"3 of 5 users failed", `user "bob": no, says bob`, `user "Cid": the function panicked: so says Cid`, "eachuser_test.go", `user "27": the function ended its goroutine`} {
		if !strings.Contains(err.Error(), words) {
			t.Errorf("there is no %q in: %v", words, err)
		}
	}
	if len(done) != 5 {
		t.Fatalf("progress was told of %v", done)
	}
	for i, p := range done {
		failed := slices.ContainsFunc(each.Users, func(u dblocker.UserError) bool { return u.User == p.User && u.Err == p.Err })
		if p.Done != i+1 || p.Total != 5 || failed != (p.Err != nil) {
			t.Errorf("progress %d: %+v", i, p)
		}
	}
	for _, user := range users { // the locks are free
		if n := note(t, db, as(t, user)); n != user+",more" {
			t.Errorf("%s has %q", user, n)
		}
	}
}

// TestEachUserHasTheLock: exclusive, or shared if asked for; never more users at a time than asked for.
func TestEachUserHasTheLock(t *testing.T) {
	db, _ := tenantDB(t, "?lock_timeout=10s")
	for u := range 6 {
		noted(t, db, fmt.Sprint("u", u))
	}
	for _, shared := range []bool{false, true} {
		opts := []dblocker.EachOption{dblocker.EachParallel(2)}
		if shared {
			opts = append(opts, dblocker.EachShared())
		}
		var running, most atomic.Int32
		err := dblocker.EachUser(t.Context(), db, func(ctx context.Context) error {
			defer running.Add(-1)
			if n := running.Add(1); n > most.Load() {
				most.Store(n)
			}
			user, _ := dblocker.User(ctx)
			_, unlock, err := dblocker.TryRLock(as(t, user), db)
			unlock()
			if (err == nil) != shared {
				t.Errorf("shared %v: a reader beside it: %v", shared, err)
			}
			_, unlock, err = dblocker.TryLock(as(t, user), db)
			unlock()
			if err == nil {
				t.Errorf("shared %v: a writer beside it", shared)
			}
			_, err = db.ExecContext(ctx, "INSERT INTO notes VALUES ('more')")
			if errors.Is(err, dblocker.ErrReadOnly) != shared {
				t.Errorf("shared %v: a write: %v", shared, err)
			}
			return nil
		}, opts...)
		if err != nil {
			t.Error(err)
		}
		if most.Load() > 2 {
			t.Errorf("for %d users at a time, want 2", most.Load())
		}
	}
}

// TestEachUserEndsWithItsContext: no more users are begun, and how many is said.
func TestEachUserEndsWithItsContext(t *testing.T) {
	db, _ := tenantDB(t, "")
	for u := range 5 {
		noted(t, db, fmt.Sprint(u+1))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	calls := 0
	err := dblocker.EachUser(ctx, db, func(context.Context) error {
		if calls++; calls == 2 {
			cancel()
		}
		return nil
	}, dblocker.EachParallel(1))
	var each *dblocker.EachError
	if !errors.As(err, &each) || !errors.Is(err, context.Canceled) || calls != 2 || each.NotBegun != 3 || len(each.Users) != 0 {
		t.Errorf("%d calls, %v", calls, err)
	}
	cancel()
	if err := dblocker.EachUser(ctx, db, func(context.Context) error { t.Error("it ran"); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}

// TestEachUserWhileOthersCome: users who are removed meanwhile do not come back, and who waits for a lock in vain is an error of that user only.
func TestEachUserWhileOthersCome(t *testing.T) {
	db, dir := tenantDB(t, "?lock_timeout=50ms")
	for _, user := range []string{"ann", "bob", "cid"} {
		noted(t, db, user)
	}
	_, unlock, err := dblocker.Lock(as(t, "cid"), db)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	var seen []string
	err = dblocker.EachUser(t.Context(), db, func(ctx context.Context) error {
		user := note(t, db, ctx)
		seen = append(seen, user)
		if user == "ann" {
			return dblocker.RemoveUser(dblocker.WithUser(ctx, "bob"), db)
		}
		return nil
	}, dblocker.EachParallel(1))
	var one *dblocker.UserError
	if !slices.Equal(seen, []string{"ann"}) || !errors.As(err, &one) || one.User != "cid" || !errors.Is(err, dblocker.ErrLockTimeout) {
		t.Errorf("it ran for %v, error %v", seen, err)
	}
	if left := filesWith(t, dir, "bob"); len(left) > 0 {
		t.Errorf("there is %v", left)
	}
}

// TestEachUserOfAList: where files tell nothing, the program says who there is.
func TestEachUserOfAList(t *testing.T) {
	db, err := sql.Open("dblocker", "sqlite3:"+filepath.Join(t.TempDir(), "all.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("CREATE TABLE users (name TEXT)"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("INSERT INTO users VALUES ('u27'), ('u_ann'), ('nobody'), ('u27')"); err != nil {
		t.Fatal(err)
	}
	collect := func(opts ...dblocker.EachOption) (seen []string, err error) {
		err = dblocker.EachUser(t.Context(), db, func(ctx context.Context) error {
			_, unlock, err := dblocker.TryLock(dblocker.WithUser(t.Context(), "27"), db)
			unlock()
			seen = append(seen, fmt.Sprint(err != nil))
			return nil
		}, append(opts, dblocker.EachParallel(1))...)
		return seen, err
	}
	seen, err := collect(dblocker.EachNamed(db, "SELECT name FROM users ORDER BY name"))
	if err != nil || !slices.Equal(seen, []string{"true", "false"}) {
		t.Errorf("by a query: %v, %v", seen, err)
	}
	errList := errors.New("no list")
	for what, c := range map[string]struct {
		opt  dblocker.EachOption
		want string
	}{
		"an error":     {dblocker.EachOf(func(context.Context) ([]string, error) { return nil, errList }), "no list"},
		"an empty ID":  {dblocker.EachOf(func(context.Context) ([]string, error) { return []string{""}, nil }), "empty"},
		"no SQL":       {dblocker.EachNamed(db, "nonsense"), "nonsense"},
		"no list":      {dblocker.EachShared(), "EachOf"},
		"nobody works": {dblocker.EachParallel(0), "at least 1"},
		"no option":    {nil, "nil"},
	} {
		if err := dblocker.EachUser(t.Context(), db, func(context.Context) error { return nil }, c.opt); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := dblocker.EachUser(t.Context(), db, nil); err == nil {
		t.Error("without a function: no error")
	}
}

// TestEachUserInsideLockAll: a migration that keeps all others out does so.
func TestEachUserInsideLockAll(t *testing.T) {
	db, _ := tenantDB(t, "?lock_timeout=5s")
	for u := range 8 {
		noted(t, db, fmt.Sprint("u", u))
	}
	ctx, unlock, err := dblocker.LockAll(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	var calls atomic.Int32
	err = dblocker.EachUser(ctx, db, func(ctx context.Context) error {
		calls.Add(1)
		_, err := db.ExecContext(ctx, "ALTER TABLE notes ADD COLUMN more")
		return err
	})
	if err != nil || calls.Load() != 8 {
		t.Errorf("%d calls, %v", calls.Load(), err)
	}
}

// TestEachNamedOfABadHandle says what is wrong with it, or with the query.
func TestEachNamedOfABadHandle(t *testing.T) {
	db, _ := tenantDB(t, "")
	noted(t, db, "ann")
	names, err := sql.Open("sqlite3", filepath.Join(t.TempDir(), "names.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer names.Close()
	for want, named := range map[string]dblocker.EachOption{
		"the handle is nil":                   dblocker.EachNamed((*sql.DB)(nil), "SELECT 1"),
		"handle is nil":                       dblocker.EachNamed(nil, "SELECT 1"),
		"the query has 2 columns":             dblocker.EachNamed(names, "SELECT 'uann', 2"),
		"has a database for each user itself": dblocker.EachNamed(db, "SELECT name FROM sqlite_master"),
	} {
		err := dblocker.EachUser(t.Context(), db, func(context.Context) error { t.Error("f is called"); return nil }, named)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

// TestOuterContextInEachUser: what is done inside with another context of the user waits for the section, and the error says so.
func TestOuterContextInEachUser(t *testing.T) {
	db, _ := tenantDB(t, "?lock_timeout=50ms")
	noted(t, db, "ann")
	err := dblocker.EachUser(t.Context(), db, func(context.Context) error {
		_, err := db.ExecContext(as(t, "ann"), "DELETE FROM notes")
		return err
	})
	if !errors.Is(err, dblocker.ErrLockTimeout) || !strings.Contains(err.Error(), "what the function given to EachUser does has to be done with the context") {
		t.Error(err)
	}
}
