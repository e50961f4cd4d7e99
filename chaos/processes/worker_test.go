//go:build unix

package processes

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/calmdocs/dblocker"
)

const (
	users   = 4 // few, so that requests meet
	workers = 4 // in each process

	lockTimeout = 3 * time.Second
)

// taskEnv has the task of a process that a test has started.
const taskEnv = "DBLOCKER_TEST_PROCESS"

// A task is what a process is to do.
type task struct {
	Engine  string
	Role    string
	Driver  string
	DSN     string
	Options string
	File    string // of its events
	Number  int
	Seed    uint64
}

// roles are what a process can be.
var roles = map[string]func(*task){
	"work":          work(func(p *process, rng *rand.Rand) { p.serve(rng) }),
	"other session": work(func(p *process, rng *rand.Rand) { p.bare(rng, p.lockElsewhere) }),
	"two kinds":     work(func(p *process, rng *rand.Rand) { p.bare(rng, p.lockOfTwoKinds) }),
	"holder":        hold,
}

// TestMain runs the tests, or is a process of one.
func TestMain(m *testing.M) {
	mysql.SetLogger(&mysql.NopLogger{})
	text := os.Getenv(taskEnv)
	if text == "" {
		code := m.Run()
		closeServers()
		os.Exit(code)
	}
	var t task
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		panic(err)
	}
	roles[t.Role](&t)
}

// A process is one that works.
type process struct {
	*task
	*recorder
	engine *engine
	calls  *calls
	dbs    []*sql.DB
	stop   atomic.Bool
}

// connections are the limits of the handles of a process: fewer than the workers could use.
var connections = [...]int{3, 7}

// work lets the workers work until the test says stop, and then waits for it to have a look.
func work(serve func(*process, *rand.Rand)) func(*task) {
	return func(t *task) {
		p := &process{task: t, engine: engineOf(t.Engine)}
		var err error
		if p.recorder, err = newRecorder(t.File, t.Number); err != nil {
			panic(err)
		}
		p.calls = newCalls(p.recorder)
		go p.calls.watch()
		for _, n := range connections {
			p.dbs = append(p.dbs, p.open(n))
		}
		input := bufio.NewReader(os.Stdin)
		done := make(chan struct{})
		go func() {
			defer close(done)
			p.run(serve)
		}()
		if _, err := input.ReadString('\n'); err != nil {
			os.Exit(4) // the test is gone
		}
		p.stop.Store(true)
		<-done
		p.rest()
		fmt.Println("idle")
		input.ReadString('\n')
		for _, db := range p.dbs {
			db.Close()
		}
		os.Exit(0)
	}
}

// open opens the database: on its own, or through dblocker.
func (p *process) open(most int) *sql.DB {
	driver, dsn := "dblocker", fmt.Sprintf("%s?lock_timeout=%v&self_wait=1s&max_open_conns=%d%s:%s", p.Driver, lockTimeout, most, p.Options, p.DSN)
	if p.Role != "work" {
		driver, dsn = p.Driver, p.DSN
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		panic(err)
	}
	return db
}

func (p *process) run(serve func(*process, *rand.Rand)) {
	var all sync.WaitGroup
	for worker := range workers {
		rng := rand.New(rand.NewPCG(p.Seed, uint64(worker)))
		all.Go(func() {
			for !p.stop.Load() {
				serve(p, rng)
			}
		})
	}
	all.Wait()
}

// settle is how long the ends that contexts bring about may take in the background, after the last request.
const settle = 30 * time.Second

// rest waits until nothing is held, and says how the calls have ended.
func (p *process) rest() {
	deadline := time.Now().Add(settle)
	for _, db := range p.dbs {
		for p.isBusy(db) {
			if time.Now().After(deadline) {
				holds, _ := dblocker.Holds(db)
				st, _ := dblocker.Stats(db)
				p.bad("with nobody at work %d connections are in use, %d at the server, and held is %v", db.Stats().InUse, st.Server.InUse, holds)
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
	p.note(event{Kind: eventCounts, Counts: p.calls.counts()})
}

func (p *process) isBusy(db *sql.DB) bool {
	if p.Role != "work" {
		return db.Stats().InUse > 0
	}
	st, err := dblocker.Stats(db)
	return err != nil || st.Held > 0 || st.Waiting > 0 || st.Server.InUse > 0 || db.Stats().InUse > 0
}

// hold has a user's lock, in the way that the options say, says so, and waits for the test.
func hold(t *task) {
	db, err := sql.Open("dblocker", t.Driver+"?lock_scope=database&lock_timeout=20s:"+t.DSN)
	if err == nil {
		err = holdings[t.Options](dblocker.WithUser(context.Background(), "u"), db)
	}
	if err != nil {
		fmt.Println("error:", err)
	}
	os.Stdin.Read(make([]byte, 1))
}

// holdings are ways to have a lock.
var holdings = map[string]func(ctx context.Context, db *sql.DB) error{
	"section": func(ctx context.Context, db *sql.DB) error {
		inside, _, err := dblocker.Lock(ctx, db)
		if err == nil {
			say("held")
			go func() {
				<-inside.Done()
				say(fmt.Sprintf("ended, lock lost: %v", errors.Is(context.Cause(inside), dblocker.ErrLockLost)))
			}()
		}
		return err
	},
	"transaction": func(ctx context.Context, db *sql.DB) error {
		tx, err := db.BeginTx(ctx, nil)
		if err == nil {
			_, err = tx.Exec("UPDATE registers SET n = n WHERE id = 0")
		}
		if err == nil {
			say("held")
		}
		return err
	},
	"section, in a statement": func(ctx context.Context, db *sql.DB) error {
		inside, _, err := dblocker.Lock(ctx, db)
		if err != nil {
			return err
		}
		say("held")
		_, err = db.ExecContext(inside, holdingStatement)
		return err
	},
	"transaction, in a statement": func(ctx context.Context, db *sql.DB) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		say("held")
		_, err = tx.ExecContext(ctx, holdingStatement)
		return err
	},
	"statement": func(ctx context.Context, db *sql.DB) error {
		say("held")
		_, err := db.ExecContext(ctx, holdingStatement)
		return err
	},
}

// holdingStatement lasts, on PostgreSQL.
const holdingStatement = "SELECT pg_sleep(60)"

func say(line string) { os.Stdout.WriteString(line + "\n") }
