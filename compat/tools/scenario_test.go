package tools

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// A program is what a tool makes of the scenario. The table is accounts (id, cents). No method takes a lock in the database, as
// by SELECT FOR UPDATE: that is what dblocker is for.
type program interface {
	// Migrate makes the table, by the tool's own migrations if it has some. The second time it does nothing.
	Migrate(ctx context.Context) error

	Create(ctx context.Context, id int64) error
	Cents(ctx context.Context, id int64) (int64, error)

	// Add reads an account in a transaction of the tool's, and then writes what it has read, and one more.
	Add(ctx context.Context, id int64) error

	// AddNested does that in a transaction, or behind a savepoint, within another, where before another nested one that writes
	// something else was rolled back.
	AddNested(ctx context.Context, id int64) error

	// AddEach adds one to each account from one id to another, in a loop over rows that are open meanwhile, outside a transaction.
	AddEach(ctx context.Context, from, to int64) error

	// Leak reads the first row of several, and forgets them.
	Leak(ctx context.Context) error
}

// errRolledBack ends what is to be rolled back.
var errRolledBack = errors.New("to be rolled back")

// A tool is one that others wrote.
type tool struct {
	name string
	open func(to *target) (program, error)
	pgx  bool // its migrations need pgx: with lib/pq they fail, on the bare driver too
}

var programs = []tool{
	{name: "gorm", open: openGORM, pgx: true},
	{name: "ent", open: openEnt},
	{name: "bun", open: openBun},
	{name: "sqlx", open: openSqlx},
	{name: "sqlc", open: openSqlc},
	{name: "xorm", open: openXorm},
	{name: "jet", open: openJet},
}

// TestTools runs the scenario with each tool on each engine.
func TestTools(t *testing.T) {
	testdb.NoLeaks(t)
	for _, tool := range programs {
		for _, e := range engines {
			t.Run(tool.name+"/"+e.name, func(t *testing.T) {
				t.Parallel()
				t.Run("bare", func(t *testing.T) {
					s := newScenario(t, tool, e, false)
					s.run()
					t.Logf("%d of %d updates lost", s.lost, s.want)
					for _, err := range s.errs {
						t.Log(err)
					}
				})
				t.Run("dblocker", func(t *testing.T) {
					s := newScenario(t, tool, e, true)
					s.run()
					if s.lost != 0 {
						t.Errorf("%d of %d updates were lost", s.lost, s.want)
					}
					for _, err := range s.errs {
						t.Error(err)
					}
				})
			})
		}
	}
}

// users each have accounts of their own, and goroutines that work with them at the same time.
const users, goroutines, accounts = 4, 4, 3

// account returns the id of the first account of a user.
func account(user int) int64 { return int64(user+1) * 10 }

// A scenario is one run of a tool on a database.
type scenario struct {
	testing.TB
	program
	to *target

	mu   sync.Mutex // guards errs
	errs []error

	want, lost int64 // updates
}

func newScenario(t testing.TB, tool tool, e *engine, locked bool) *scenario {
	to := newTarget(t, e, locked, tool.pgx)
	p, err := tool.open(to)
	if err != nil {
		t.Fatal(err)
	}
	return &scenario{TB: t, program: p, to: to}
}

func newTarget(t testing.TB, e *engine, locked, pgx bool) *target {
	to := &target{engine: e, driver: e.driver, dsn: e.database(t), locked: locked}
	if pgx && e == postgresEngine {
		to.driver = "pgx"
	}
	var err error
	if to.handle, err = to.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { to.handle.Close() })
	return to
}

// ctx is that of one request of a user.
func (s *scenario) ctx(user int) context.Context {
	return dblocker.WithUser(s.Context(), fmt.Sprintf("user%d", user))
}

func (s *scenario) note(what string, err error) bool {
	if err == nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.errs) < 5 {
		s.errs = append(s.errs, fmt.Errorf("%s: %w", what, err))
	}
	return false
}

func (s *scenario) run() {
	for range 2 {
		if !s.note("Migrate", s.Migrate(s.Context())) {
			s.Fatal(s.errs)
		}
	}
	for user := range users {
		for i := range int64(accounts) {
			if !s.note("Create", s.Create(s.ctx(user), account(user)+i)) {
				s.Fatal(s.errs)
			}
		}
	}
	s.contend()
	for user := range users {
		s.leak(user)
		s.settle(user)
	}
}

// contend has goroutines of each user in transactions, and in sections, on the same accounts.
func (s *scenario) contend() {
	var wg sync.WaitGroup
	for user := range users {
		for g := range goroutines {
			wg.Go(func() {
				for range *rounds {
					s.note("Add", s.Add(s.ctx(user), account(user)))
					s.note("AddNested", s.AddNested(s.ctx(user), account(user)))
				}
				if g < 2 {
					s.note("AddEach", s.addEach(user))
				}
			})
		}
	}
	wg.Wait()
}

// addEach is for statements that are no transaction: there a section keeps others out.
func (s *scenario) addEach(user int) error {
	ctx := s.ctx(user)
	if s.to.locked {
		var unlock context.CancelFunc
		var err error
		if ctx, unlock, err = dblocker.Lock(ctx, s.to.handle); err != nil {
			return err
		}
		defer unlock()
	}
	return s.AddEach(ctx, account(user), account(user)+accounts)
}

// leak leaves rows open, and expects the user's next request not to be kept waiting.
func (s *scenario) leak(user int) {
	ctx, cancel := context.WithCancel(s.ctx(user))
	defer cancel()
	if user > 0 || !s.note("Leak", s.Leak(ctx)) {
		return
	}
	begun := time.Now()
	s.note("Add beside rows that nobody closes", s.Add(s.ctx(user), account(user)))
	if took := time.Since(begun); took > 20*time.Second {
		s.note("Add beside rows that nobody closes", fmt.Errorf("it took %v", took))
	}
}

// settle counts what the accounts of a user should have.
func (s *scenario) settle(user int) {
	for i := range int64(accounts) {
		want := int64(2)
		if i == 0 {
			want += int64(goroutines * *rounds * 2)
			if user == 0 {
				want++
			}
		}
		got, err := s.Cents(s.ctx(user), account(user)+i)
		if !s.note("Cents", err) {
			return
		}
		s.want += want
		s.lost += want - got
	}
}
