package lockpage

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mattn/go-sqlite3"

	"github.com/calmdocs/dblocker"
)

var drivers atomic.Int64

// openSQLite opens a new SQLite database with the options.
func openSQLite(t testing.TB, opts ...dblocker.Option) *sql.DB {
	t.Helper()
	name := fmt.Sprintf("lockpage%d", drivers.Add(1))
	must(t, dblocker.Register(name, &sqlite3.SQLiteDriver{}, opts...))
	db, err := sql.Open(name, filepath.Join(t.TempDir(), "app.db"))
	must(t, err)
	t.Cleanup(func() { db.Close() })
	_, err = db.Exec("CREATE TABLE t (name TEXT, v INTEGER)")
	must(t, err)
	return db
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A scene is requests that have and want locks. end ends them all.
type scene struct {
	t    testing.TB
	db   *sql.DB
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup
}

func newScene(t testing.TB, db *sql.DB) *scene {
	s := &scene{t: t, db: db}
	s.ctx, s.stop = context.WithCancel(context.Background())
	t.Cleanup(s.end)
	return s
}

func (s *scene) end() {
	s.stop()
	s.wg.Wait()
}

// holds has a section of a user until the end.
func (s *scene) holds(user, tag string) context.Context {
	s.t.Helper()
	ctx, unlock, err := dblocker.Lock(dblocker.WithUser(s.ctx, user), s.db, dblocker.Tag(tag))
	must(s.t, err)
	s.wg.Go(func() {
		<-s.ctx.Done()
		unlock()
	})
	return ctx
}

// wants wants a section of a user inside a context, and waits until that is seen.
func (s *scene) wants(ctx context.Context, user, tag string) {
	s.t.Helper()
	before := s.waiting()
	s.wg.Go(func() {
		if _, unlock, err := dblocker.Lock(dblocker.WithUser(ctx, user), s.db, dblocker.Tag(tag)); err == nil {
			unlock()
		}
	})
	s.until(func() bool { return s.waiting() > before })
}

func (s *scene) waiting() int {
	s.t.Helper()
	st, err := dblocker.Stats(s.db)
	must(s.t, err)
	return st.Waiting
}

func (s *scene) until(is func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatal("not so in a minute")
		}
	}
}

// deadlock has two requests lock two users in opposite order.
func (s *scene) deadlock(one, two string) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	var first, second sync.WaitGroup
	first.Add(2)
	for _, users := range [][2]string{{one, two}, {two, one}} {
		second.Go(func() {
			in, unlock, err := dblocker.Lock(dblocker.WithUser(ctx, users[0]), s.db, dblocker.Tag("take from one account"))
			first.Done()
			if err != nil {
				return
			}
			defer unlock()
			first.Wait()
			if _, unlock, err := dblocker.Lock(dblocker.WithUser(in, users[1]), s.db, dblocker.Tag("give to the other")); err == nil {
				unlock()
			}
		})
	}
	second.Wait()
}

// load writes for some users until the context ends.
func (s *scene) load(ctx context.Context, workers, users int) {
	for i := range workers {
		s.wg.Go(func() {
			for n := i; ctx.Err() == nil; n++ {
				ctx := dblocker.WithUser(ctx, fmt.Sprint("customer-", n%users))
				s.db.ExecContext(ctx, "INSERT INTO t VALUES ('x', ?)", n)
				var v sql.NullInt64
				s.db.QueryRowContext(ctx, "SELECT max(v) FROM t").Scan(&v)
			}
		})
	}
}
