package tenants

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A db is a database that notes what is done with it.
type db struct {
	closed, refused atomic.Bool
}

func (d *db) Close() error { d.closed.Store(true); return nil }
func (d *db) Refuse()      { d.refused.Store(true) }

var errTimeout, errClosed = errors.New("timeout"), errors.New("closed")

const (
	maxIdle  = 16
	idleTime = time.Minute
)

// newCache returns a Cache whose users have the databases that find names. It keeps those whose names begin with k.
func newCache(find func(ctx context.Context, user string) (string, error)) *Cache[*db] {
	return New(Config[*db]{
		Find: func(ctx context.Context, user string) (Found[*db], error) {
			name, err := find(ctx, user)
			return Found[*db]{Key: name, Keep: name != "" && name[0] == 'k', Open: func() (*db, error) { return new(db), nil }}, err
		},
		Timeout:    time.Minute,
		ErrTimeout: errTimeout,
		ErrClosed:  errClosed,
		Contain:    func(f func()) { f() },
		Limits:     Limits{MaxUnused: maxIdle, Unused: idleTime},
	})
}

func take(t *testing.T, c *Cache[*db], user string) (*db, func()) {
	t.Helper()
	d, giveBack, err := c.Take(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	return d, giveBack
}

// TestUsersOfOneDatabaseShareIt, and it is closed with the last, or when it has been idle if it may be kept.
func TestUsersOfOneDatabaseShareIt(t *testing.T) {
	for _, name := range []string{"kept", "other"} {
		synctest.Test(t, func(t *testing.T) {
			c := newCache(func(context.Context, string) (string, error) { return name, nil })
			a, leaveA := take(t, c, "a")
			b, leaveB := take(t, c, "b")
			if a != b {
				t.Errorf("%s: two users of one database have two", name)
			}
			leaveA()
			leaveB()
			synctest.Wait()
			if a.closed.Load() != (name == "other") {
				t.Errorf("%s: closed %v when its last user has left", name, a.closed.Load())
			}
			time.Sleep(idleTime * 3 / 2) // of the bubble
			synctest.Wait()
			if users, open, idle := c.InUse(); !a.closed.Load() || users+open+idle != 0 {
				t.Errorf("%s: closed %v; %d users, %d open, %d idle", name, a.closed.Load(), users, open, idle)
			}
		})
	}
}

// TestIdleDatabasesAreFew: the one that has been idle for the longest is closed for one more.
func TestIdleDatabasesAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(func(_ context.Context, user string) (string, error) { return "k" + user, nil })
		first, leave := take(t, c, "first")
		leave()
		for i := range maxIdle {
			_, leave := take(t, c, string(rune('a'+i)))
			leave()
		}
		synctest.Wait()
		if _, _, idle := c.InUse(); idle != maxIdle || !first.closed.Load() {
			t.Errorf("%d are idle, want %d; the first is closed: %v", idle, maxIdle, first.closed.Load())
		}
		c.Close()
		c.Wait()
	})
}

// TestFunctionIsAskedOncePerUser, however many wait for it; what it does wrong is an error of theirs.
func TestFunctionIsAskedOncePerUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls, goOn := 0, make(chan string)
		c := newCache(func(context.Context, string) (string, error) {
			calls++
			what := <-goOn
			if what == "panic" {
				panic(what)
			}
			return what, nil
		})
		for _, what := range []string{"panic", "fine"} {
			var wait sync.WaitGroup
			for range 5 {
				wait.Go(func() {
					_, giveBack, err := c.Take(t.Context(), "user")
					if (err == nil) != (what == "fine") {
						t.Errorf("%s: %v", what, err)
					}
					if err == nil {
						giveBack()
					}
				})
			}
			synctest.Wait()
			goOn <- what
			wait.Wait()
		}
		if calls != 2 {
			t.Errorf("the function was called %d times, want 2", calls)
		}
	})
}

// TestWaitsEnd with the context, after the time, and for all when nobody is left, whose function is told then.
func TestWaitsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := make(chan struct{})
		c := newCache(func(ctx context.Context, _ string) (string, error) {
			<-ctx.Done()
			close(told)
			return "", ctx.Err()
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		results := make(chan error, 2)
		for _, ctx := range []context.Context{ctx, t.Context()} {
			go func() {
				_, _, err := c.Take(ctx, "user")
				results <- err
			}()
		}
		if err := <-results; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the first waits until %v", err)
		}
		if err := <-results; !errors.Is(err, errTimeout) {
			t.Errorf("the second waits until %v", err)
		}
		<-told
	})
}

// TestCloseRefusesUsers: those that have a database can do no more with it, it is closed with the last, and nobody gets another.
func TestCloseRefusesUsers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(func(context.Context, string) (string, error) { return "kept", nil })
		d, giveBack := take(t, c, "user")
		c.Close()
		if !d.refused.Load() || d.closed.Load() {
			t.Errorf("refused %v, closed %v; want only the first while it has a user", d.refused.Load(), d.closed.Load())
		}
		if _, _, err := c.Take(t.Context(), "other"); err != errClosed {
			t.Errorf("a closed cache answers %v", err)
		}
		giveBack()
		c.Wait()
		if !d.closed.Load() {
			t.Error("it is open without users")
		}
	})
}
