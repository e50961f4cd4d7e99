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
)

// nestings are the ways to begin a section, with the users and modes that they ask for.
var nestings = []struct {
	name  string
	mode  Mode
	users string // that it locks, of 1 and 2; "*" is all
	begin func(ctx context.Context, db Handle) (context.Context, func(), error)
}{
	{"Lock", Exclusive, "1", func(ctx context.Context, db Handle) (context.Context, func(), error) {
		return Lock(withUserKey(ctx, 1), db)
	}},
	{"RLock", Shared, "1", func(ctx context.Context, db Handle) (context.Context, func(), error) {
		return RLock(withUserKey(ctx, 1), db)
	}},
	{"pinned Lock", Exclusive, "1", func(ctx context.Context, db Handle) (context.Context, func(), error) {
		return Lock(withUserKey(ctx, 1), db, Pin())
	}},
	{"Lock of user 2", Exclusive, "2", func(ctx context.Context, db Handle) (context.Context, func(), error) {
		return Lock(withUserKey(ctx, 2), db)
	}},
	{"RLock of user 2", Shared, "2", func(ctx context.Context, db Handle) (context.Context, func(), error) {
		return RLock(withUserKey(ctx, 2), db)
	}},
	{"LockUsers", Exclusive, "12", func(ctx context.Context, db Handle) (context.Context, func(), error) {
		return LockUsers(ctx, db, 1, 2)
	}},
	{"LockAll", Exclusive, "*", func(ctx context.Context, db Handle) (context.Context, func(), error) {
		return LockAll(ctx, db)
	}},
}

// withUserKey names the user of a context, whose owner stays.
func withUserKey(ctx context.Context, id any) context.Context {
	return context.WithValue(ctx, UserKey, id)
}

// refusesInside tells that an exclusive section is begun for a user whose lock the outer
// one has only shared.
func refusesInside(outerMode, innerMode Mode, outer, inner string) bool {
	return outerMode == Shared && innerMode == Exclusive && (inner == "*" || inner == outer || inner == "12")
}

// TestNestings begins every section inside every other: it works at once, or is refused
// at once with ErrReadOnly. So it does in a forked context, and while strangers ask for the
// lock of all users, before and after the outer section was begun.
func TestNestings(t *testing.T) {
	plain := func(ctx context.Context) context.Context { return ctx }
	nobody := func(*testing.T, *sql.DB) {}
	for _, situation := range []struct {
		name          string
		within        func(context.Context) context.Context
		before, after func(*testing.T, *sql.DB) // the outer section was begun
	}{
		{"quiet", plain, nobody, nobody},
		{"forked", Fork, nobody, nobody},
		{"all wanted", plain, nobody, waitForAll},
		{"all wanted twice", plain, holdAll, waitForAll},
	} {
		for _, outer := range nestings {
			for _, inner := range nestings {
				t.Run(fmt.Sprintf("%s/%s inside %s", situation.name, inner.name, outer.name), func(t *testing.T) {
					bubble(t, func(t *testing.T) {
						db := openStub(t, &stub{})
						situation.before(t, db)
						ctx, unlock, err := outer.begin(asUser(1), db)
						must(t, err)
						situation.after(t, db)
						start := time.Now()
						_, unlockInner, err := inner.begin(situation.within(ctx), db)
						if refused := refusesInside(outer.mode, inner.mode, outer.users, inner.users); (err != nil) != refused || refused && !errors.Is(err, ErrReadOnly) {
							t.Errorf("got %v, want ErrReadOnly: %v", err, refused)
						}
						if waited := time.Since(start); waited != 0 {
							t.Errorf("it took %v", waited)
						}
						unlockInner()
						for user := 1; user <= 3; user++ {
							_, err := db.QueryContext(WithUser(ctx, user), "SELECT v FROM t")
							must(t, err)
						}
						unlock()
						synctest.Wait()
						for user := 1; user <= 3; user++ {
							if !isFree(t, db, user) {
								t.Errorf("user %d is still locked", user)
							}
						}
						if n := len(lockTableOf(t, db).SnapshotAll()); n != 0 {
							t.Errorf("%d still have the lock of all users", n)
						}
					})
				})
			}
		}
	}
}

// holdAll has a stranger take the lock of all users for a second.
func holdAll(t *testing.T, db *sql.DB) {
	_, unlock, err := LockAll(context.Background(), db)
	must(t, err)
	time.AfterFunc(time.Second, unlock)
}

// waitForAll has a stranger wait for it.
func waitForAll(t *testing.T, db *sql.DB) {
	go func() {
		_, unlock, err := LockAll(context.Background(), db)
		unlock()
		if err != nil {
			t.Error(err)
		}
	}()
	synctest.Wait()
}

// TestNestingsUnderLoad has requests begin sections of all kinds inside each other, of few users
// and at random. No two requests are ever in sections that exclude each other, each wait ends
// soon, be it with ErrDeadlock, and nothing is left.
func TestNestingsUnderLoad(t *testing.T) {
	const workers, rounds, depth = 8, 60, 4
	bubble(t, func(t *testing.T) {
		db := openStub(t, &stub{})
		p := presence{modes: map[string]map[int]Mode{"1": {}, "2": {}}}
		var visit func(ctx context.Context, worker, depth int)
		visit = func(ctx context.Context, worker, depth int) {
			n := nestings[rand.IntN(len(nestings))]
			start := time.Now()
			ctx, unlock, err := n.begin(ctx, db)
			defer unlock()
			if waited := time.Since(start); waited > 2*time.Second {
				t.Errorf("%s waited %v", n.name, waited)
			}
			if err != nil {
				if !errors.Is(err, ErrDeadlock) && !errors.Is(err, ErrReadOnly) {
					t.Errorf("%s: %v", n.name, err)
				}
				return
			}
			defer p.enter(t, worker, n.users, n.mode)()
			time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond)
			if depth > 1 && rand.IntN(3) > 0 {
				visit(ctx, worker, depth-1)
			}
		}
		var wg sync.WaitGroup
		for worker := range workers {
			wg.Go(func() {
				for range rounds {
					visit(asUser(1), worker, depth)
				}
			})
		}
		wg.Wait()
		if n := len(lockTableOf(t, db).SnapshotAll()); n != 0 {
			t.Errorf("%d still have the lock of all users", n)
		}
	})
}

// presence says who is in a section of a user, and in which mode.
type presence struct {
	mu    sync.Mutex
	modes map[string]map[int]Mode // by user, then by worker
}

// enter notes a section of a worker, until leave, and fails the test if it is beside one of
// another worker that it excludes.
func (p *presence) enter(t *testing.T, worker int, users string, mode Mode) (leave func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var entered []string
	for user, there := range p.modes {
		if _, inside := there[worker]; inside || users != "*" && !strings.Contains(users, user) {
			continue // a section around has the lock
		}
		for other, its := range there {
			if mode == Exclusive || its == Exclusive {
				t.Errorf("workers %d (%v) and %d (%v) are both in a section of user %s", worker, mode, other, its, user)
			}
		}
		there[worker] = mode
		entered = append(entered, user)
	}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, user := range entered {
			delete(p.modes[user], worker)
		}
	}
}
