package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// A distance is how far a server is: how long it takes to send something there and have the answer, beside what that takes on
// one machine.
type distance time.Duration

var distances = []distance{0, distance(2400 * time.Microsecond)}

func (d distance) String() string { return fmt.Sprintf("%.3g ms", time.Duration(d).Seconds()*1e3) }

// from returns databases on the same servers, that far away.
func (d distance) from(near *databases) *databases {
	if d == 0 {
		return near
	}
	far := &databases{prefix: "far_"}
	far.server = func(e *testdb.Engine) (*testdb.Server, error) {
		server, err := near.server(e)
		if err != nil {
			return nil, err
		}
		p, err := newProxy(server.Addr(), time.Duration(d)/2)
		if err != nil {
			return nil, err
		}
		far.undo = append(far.undo, p.close)
		far.ways = append(far.ways, p)
		there := *server
		there.Host, there.Port = "127.0.0.1", p.port()
		return &there, nil
	}
	near.undo = append(near.undo, far.remove)
	return far
}

// reaches are the contenders of the suite "scope": how far locks reach. The second is the baseline.
var reaches = []wrapper{
	{"bare", func(e *engine, dsn string) (*sql.DB, error) { return sql.Open(e.driver, dsn) }},
	{baselineReach, func(e *engine, dsn string) (*sql.DB, error) {
		return sql.Open("dblocker", e.driver+"?lock_scope=process:"+dsn)
	}},
	{"database", openReaching},
	{foldedReach, openReaching},
}

func openReaching(e *engine, dsn string) (*sql.DB, error) {
	return sql.Open("dblocker", e.driver+"?lock_scope=database:"+dsn)
}

// openApart returns a handle that knows of no other on the database: as in another process.
func openApart(e *engine, dsn string) (*sql.DB, error) {
	bare, err := sql.Open(e.driver, dsn)
	if err != nil {
		return nil, err
	}
	defer bare.Close()
	return dblocker.OpenDB(apart{bare.Driver(), dsn}, dblocker.LockScope(dblocker.DatabaseScope))
}

// An apart is a connector that does not tell what it connects to.
type apart struct {
	driver driver.Driver
	dsn    string
}

func (a apart) Connect(context.Context) (driver.Conn, error) { return a.driver.Open(a.dsn) }
func (a apart) Driver() driver.Driver                        { return a.driver }

const baselineReach = "process"

// A guarded is an operation of the suite "scope". It raises the counter of the user by one, or only reads it.
type guarded struct {
	name    string
	run     func(c *counter, ctx context.Context) error
	updates bool
	users   int // of each goroutine, one after the other
	crowds  []int
}

var guardeds = []guarded{
	{"query", (*counter).read, false, 1, []int{1, 16}},
	{"exec", (*counter).raise, true, 1, []int{1, 16}},
	{"tx", (*counter).inTx, true, 1, []int{1, 16}},
	{"section", (*counter).inSection, true, 1, []int{1, 16}},
	{"query-others", (*counter).read, false, 16, []int{1, 16}},
	{"exec-others", (*counter).raise, true, 16, []int{1, 16}},
	{"tx-others", (*counter).inTx, true, 16, []int{1, 16}},
	{"section-others", (*counter).inSection, true, 16, []int{1, 16}},
	{hotUser, (*counter).inSection, true, 0, []int{32}}, // all have the same user
}

// hotUser is the operation that is divided between two handles, which know nothing of each other where locks reach beyond the process.
const hotUser = "section-hot"

// A counter is that of a user, in a database.
type counter struct {
	db            *sql.DB
	id            int
	query, update string
	locks         bool // the handle has sections
}

// A runner of statements is a *sql.DB or a *sql.Tx.
type runner interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

func (c *counter) readBy(ctx context.Context, r runner) error {
	var n int
	return r.QueryRowContext(ctx, c.query, c.id).Scan(&n)
}

func (c *counter) raiseBy(ctx context.Context, r runner) error {
	return checkUpdate(r.ExecContext(ctx, c.update, c.id))
}

func (c *counter) read(ctx context.Context) error  { return c.readBy(ctx, c.db) }
func (c *counter) raise(ctx context.Context) error { return c.raiseBy(ctx, c.db) }

// inTx has two statements in a transaction.
func (c *counter) inTx(ctx context.Context) error {
	tx, err := c.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := errors.Join(c.readBy(ctx, tx), c.raiseBy(ctx, tx)); err != nil {
		return err
	}
	return tx.Commit()
}

// inSection has the same two in a section; without locks there is nothing around them.
func (c *counter) inSection(ctx context.Context) error {
	if c.locks {
		inside, unlock, err := dblocker.Lock(ctx, c.db)
		if err != nil {
			return err
		}
		defer unlock()
		ctx = inside
	}
	return errors.Join(c.read(ctx), c.raise(ctx))
}

// scopeSuite compares how far locks reach, on one engine.
func scopeSuite(ctx context.Context, d *databases, e *engine, sel selection) ([]*comparison, error) {
	var contenders []*reach
	for _, w := range reaches {
		if w.name != baselineReach && !sel.contender.MatchString(w.name) || w.name == foldedReach && e.driver != "pgx" {
			continue
		}
		dsn, err := d.create(ctx, e, memory().dir)
		if err != nil {
			return nil, err
		}
		if w.name == foldedReach {
			foldOn(dsn)
		}
		contenders = append(contenders, &reach{w, e, dsn, d})
	}
	var all []*comparison
	for _, g := range guardeds {
		if g.name == hotUser && e.server == nil {
			continue // one process does not open a file as two
		}
		for _, goroutines := range g.crowds {
			if workload := fmt.Sprintf("%s/%d", g.name, goroutines); sel.workload.MatchString(workload) {
				all = append(all, compareReaches(workload, g, goroutines, contenders))
			}
		}
	}
	if e.server == nil && sel.workload.MatchString(pairWorkload) {
		c := compareReaches(pairWorkload, guarded{run: (*counter).raise, updates: true}, pairWriters, contenders)
		for i, entry := range c.entries {
			alone := entry.open
			entry.open = func(ctx context.Context, p plan) (*trial, error) {
				t, err := alone(ctx, p)
				if err != nil {
					return nil, err
				}
				return contenders[i].besidePair(t)
			}
		}
		all = append(all, c)
	}
	return all, nil
}

func compareReaches(workload string, g guarded, goroutines int, contenders []*reach) *comparison {
	compared := &comparison{where: contenders[0].engine.name, workload: workload, title: "time / " + baselineReach}
	for _, r := range contenders {
		e := &entry{contender: r.name}
		e.open = func(ctx context.Context, p plan) (*trial, error) { return r.trial(ctx, g, p.limit(goroutines), e) }
		compared.entries = append(compared.entries, e)
		if r.name == baselineReach {
			compared.baseline = e
		}
	}
	compared.figure = func(i, round int) float64 {
		return compared.baseline.samples[round].rate / compared.entries[i].samples[round].rate
	}
	return compared
}

// A reach is a contender with a database of its own.
type reach struct {
	wrapper
	engine *engine
	dsn    string
	on     *databases
}

// trial opens the database for one slice. When it is closed, the entry has how many connections the server has for it, and
// how many messages it was sent.
func (r *reach) trial(ctx context.Context, g guarded, goroutines int, e *entry) (*trial, error) {
	db, err := r.open(r.engine, r.dsn)
	if err != nil {
		return nil, err
	}
	db.SetMaxIdleConns(maxIdle)
	before := r.on.sent()
	t := &trial{
		sum: func(ctx context.Context) (int, error) { return sumCounters(ctx, db) },
		close: func() error {
			e.sent += r.on.sent() - before
			n, err := r.engine.connections(ctx, db)
			e.conns = max(e.conns, n)
			return errors.Join(err, db.Close())
		},
	}
	beside := db
	if g.name == hotUser && r.reaches() {
		if beside, err = openApart(r.engine, r.dsn); err != nil {
			return nil, errors.Join(err, db.Close())
		}
		beside.SetMaxIdleConns(maxIdle)
		alone := t.close
		t.close = func() error { return errors.Join(alone(), beside.Close()) }
	}
	for i := range goroutines {
		side := i % 2
		c := &counter{[]*sql.DB{db, beside}[side], 0, "SELECT n FROM counters WHERE id = " + r.engine.bind,
			"UPDATE counters SET n = n + 1 WHERE id = " + r.engine.bind, r.name != "bare"}
		n := 0
		t.workers = append(t.workers, func(t *tally) error {
			c.id = 1
			if g.users > 0 {
				c.id = 1 + i + goroutines*(n%g.users)
			}
			n++
			err := g.run(c, dblocker.WithUser(ctx, c.id))
			if g.updates {
				err = t.updated(err)
			}
			e.sides[side].Add(1)
			return err
		})
	}
	return t, nil
}

// sent returns how many messages were sent to servers that are far away.
func (d *databases) sent() (n int64) {
	for _, way := range d.ways {
		n += way.sent.Load()
	}
	return n
}

// messages is how many the server was sent for each operation; 0 where they are not counted.
func (e *entry) messages() float64 {
	return float64(e.sent) / float64(max(1, e.sides[0].Load()+e.sides[1].Load()))
}

// titleAt is the title of the engine that far away.
func (e *engine) titleAt(d distance) string {
	if e.server == nil {
		return e.title
	}
	return fmt.Sprintf("%s, %v away", e.title, d)
}

func (r *reach) reaches() bool { return r.name != "bare" && r.name != baselineReach }

// shares tells how the work was divided between two handles.
func (e *entry) shares() string {
	most, least := max(e.sides[0].Load(), e.sides[1].Load()), min(e.sides[0].Load(), e.sides[1].Load())
	return fmt.Sprintf(", %.2f:1", float64(most)/float64(max(1, least)))
}

// connections is how many the server has to the database; 0 where there is none.
func (e *engine) connections(ctx context.Context, db *sql.DB) (n int, err error) {
	if e.server == nil {
		return 0, nil
	}
	query := "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
	if e.server == testdb.MariaDB {
		query = "SELECT count(*) FROM information_schema.processlist WHERE db = database()"
	}
	return n, db.QueryRowContext(ctx, query).Scan(&n)
}
