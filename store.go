package dblocker

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/calmdocs/dblocker/internal/callers"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/tenants"
)

// A Store hands out sqlx handles that are under a user's lock:
//
//	store, err := dblocker.New(ctx, "sqlite3", "app.db", false)
//	...
//	cancel, db, err := store.RWGetDB(userID, ctx, "rename file")
//	if err != nil {
//		return err
//	}
//	defer cancel()
//	// db is a *sqlx.DB, and has the user's exclusive lock until cancel
//
// Everything that is done with such a handle is inside a section, see [Lock], whatever
// context it is given: reads and writes, transactions, prepared statements. After
// cancel, or when ctx has ended, its rows are closed and its transactions rolled back, and the
// handle answers an error that says so, which is [ErrReleased], or that of ctx; or later, when
// many others have been given back, "sql: database is closed". All handles of a Store share its server
// connections, so one costs microseconds.
//
// Pass the handle on to what a function calls. Where that asks for a handle of its own for the same
// user, to write, it waits for the first one: if the goroutine is the same, for self_wait, and
// then it gets [ErrDeadlock].
//
// cancel is never nil, also beside an error, and does nothing the second time.
type Store struct {
	own    *storeDB                 // of the data source name
	shards *tenants.Cache[*storeDB] // nil if all users are in own
	debug  bool
	done   chan struct{} // closed by Close
	stop   func() bool

	mu     sync.Mutex // guards what follows, and the closing of done
	live   map[*section]struct{}
	closed bool

	// givenBack are the last few handles that were, the oldest first. They have no
	// connection and get none; only when they are closed, nothing but database/sql answers
	// for them.
	givenBack []*sql.DB
}

// A storeDB is what handles of a Store are made of.
type storeDB struct {
	c    *Connector
	db   *sqlx.DB // tagged by context
	name string   // of the inner driver, for sqlx's bind type

	borrowed bool // db is not ours: c takes its connections
}

// Close implements [tenants.Database].
func (on *storeDB) Close() error {
	var err error
	if on.borrowed {
		err = on.c.Close()
	}
	return errors.Join(err, on.db.Close())
}

// Refuse implements [tenants.Database]: nobody gets a lock any more.
func (on *storeDB) Refuse() { on.c.Close() }

// New opens a database for a [Store]. driverName and dataSourceName are those of the
// inner driver, such as "sqlite3" and "app.db", or those of dblocker. With debug, the
// Store logs what is held and waited for longer than [DebugAfter], for as long as it is,
// and which call of the program took it.
//
// Waiting is bounded by the option [LockTimeout], 2 minutes by default, and a statement
// by [StatementTimeout], which for a Store is 4 minutes by default on PostgreSQL, MySQL
// and MariaDB.
//
// The Store is closed by [Store.Close], or when ctx ends. New does not connect.
func New(ctx context.Context, driverName, dataSourceName string, debug bool, opts ...Option) (*Store, error) {
	if ctx == nil {
		return nil, errNilContext
	}
	own, err := openStoreDB(driverName, dataSourceName, opts)
	if err != nil {
		return nil, err
	}
	s := &Store{own: own, debug: debug, done: make(chan struct{}), live: make(map[*section]struct{})}
	if cfg := own.c.config; cfg.connect != nil || cfg.shardDSN != nil {
		s.shards = shardsOf(s.done, cfg, driverName, dataSourceName, opts)
	}
	if debug {
		go s.watch()
	}
	s.stop = context.AfterFunc(ctx, func() { s.Close() })
	return s, nil
}

// openStoreDB opens what New is given.
func openStoreDB(driverName, dsn string, opts []Option) (*storeDB, error) {
	d, dsn, err := namedDriver("New", driverName, dsn)
	if err != nil {
		return nil, err
	}
	d.forStore = true
	d.opts = slices.Concat([]Option{storeDefaults}, d.opts, opts)
	return d.openx(dsn)
}

// storeDefaults come before the options of a Store.
func storeDefaults(c *config) error {
	c.lockTimeout = longTimeout
	if c.engine.LimitStatements != nil {
		c.statementTimeout = 4 * time.Minute
	}
	return nil
}

func newStoreDB(c *Connector, db *sql.DB, name string) *storeDB {
	if sqlx.BindType(name) == sqlx.UNKNOWN {
		sqlx.BindDriver(name, c.engine.BindType)
	}
	return &storeDB{c: c, db: sqlx.NewDb(db, name), name: name}
}

// Close closes the Store: handles that are out are ended as by their cancel, they and those who
// wait for a lock get "sql: database is closed". Databases that are in use by a running
// call are closed when that has returned. The second time Close does nothing.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.done)
	givenBack := s.givenBack
	s.givenBack = nil
	live := make([]*section, 0, len(s.live))
	for sec := range s.live {
		live = append(live, sec)
	}
	s.mu.Unlock()
	s.stop()
	err := s.own.Close() // first, so that nobody who waits gets a lock now
	if s.shards != nil {
		s.shards.Close()
	}
	for _, sec := range live {
		sec.locks.End(errClosed)
	}
	for _, db := range givenBack {
		db.Close()
	}
	if s.shards != nil {
		s.shards.Wait()
	}
	return err
}

// DB returns the handle on the Store's own database whose operations are each under
// the lock of the user of their context, see [WithUser].
func (s *Store) DB() *sqlx.DB { return s.own.db }

// ReadGetDB returns a handle under the user's shared lock, which only reads: what
// writes is refused with [ErrReadOnly]. The tag names the handle in errors and logs.
func (s *Store) ReadGetDB(userID any, ctx context.Context, tag string) (cancel context.CancelFunc, db *sqlx.DB, err error) {
	return s.get(userID, ctx, sectionRequest{mode: Shared, tag: tag})
}

// RWGetDB returns a handle under the user's exclusive lock. The tag names the handle in
// errors and logs.
func (s *Store) RWGetDB(userID any, ctx context.Context, tag string) (cancel context.CancelFunc, db *sqlx.DB, err error) {
	return s.get(userID, ctx, sectionRequest{mode: Exclusive, tag: tag})
}

// RWGetDBWithTimeout is [Store.RWGetDB] with another [StatementTimeout]; 0 is no bound,
// or what the server has as its default.
func (s *Store) RWGetDBWithTimeout(userID any, ctx context.Context, tag string, statementTimeout time.Duration) (cancel context.CancelFunc, db *sqlx.DB, err error) {
	if statementTimeout < 0 {
		return func() {}, nil, fmt.Errorf("dblocker: the statement timeout is %v; it must be %s", statementTimeout, wantDuration)
	}
	return s.get(userID, ctx, sectionRequest{mode: Exclusive, tag: tag, timeout: &statementTimeout})
}

// Read is [Store.ReadGetDB] with the context first, and the function that ends the handle, release, after the handle.
func (s *Store) Read(ctx context.Context, userID any, tag string) (db *sqlx.DB, release func(), err error) {
	release, db, err = s.ReadGetDB(userID, ctx, tag)
	return db, release, err
}

// Write is [Store.RWGetDB] in the form of [Store.Read].
func (s *Store) Write(ctx context.Context, userID any, tag string) (db *sqlx.DB, release func(), err error) {
	release, db, err = s.RWGetDB(userID, ctx, tag)
	return db, release, err
}

// ReadDo calls f with a handle as [Store.ReadGetDB] returns it, and ends that when f
// returns or panics. It returns f's error.
func (s *Store) ReadDo(userID any, ctx context.Context, tag string, f func(db *sqlx.DB) error) error {
	if f == nil {
		return errNilFunc
	}
	cancel, db, err := s.ReadGetDB(userID, ctx, tag)
	if err != nil {
		return err
	}
	defer cancel()
	return f(db)
}

// RWDo calls f with a handle as [Store.RWGetDB] returns it, and ends that when f
// returns or panics. It returns f's error.
func (s *Store) RWDo(userID any, ctx context.Context, tag string, f func(db *sqlx.DB) error) error {
	if f == nil {
		return errNilFunc
	}
	cancel, db, err := s.RWGetDB(userID, ctx, tag)
	if err != nil {
		return err
	}
	defer cancel()
	return f(db)
}

func (s *Store) get(userID any, ctx context.Context, req sectionRequest) (context.CancelFunc, *sqlx.DB, error) {
	sec, on, err := s.begin(userID, ctx, req)
	if err != nil {
		return func() {}, nil, err
	}
	db := on.bind(sec)
	sec.AfterFunc(func() { s.takeBack(db.DB) })
	return sec.unlock, db, nil
}

// begin begins a section of the user on the user's database.
func (s *Store) begin(userID any, ctx context.Context, req sectionRequest) (*section, *storeDB, error) {
	if ctx == nil {
		return nil, nil, errNilContext
	}
	user, err := locks.CanonicalUser(userID)
	if err != nil {
		return nil, nil, err
	}
	on, release := s.own, func() {}
	if s.shards != nil {
		if on, release, err = s.shards.Take(ctx, user); err != nil {
			return nil, nil, err
		}
		release = sync.OnceFunc(release) // a section may have begun, and ended, that is an error here
	}
	if !on.borrowed {
		on.c.outer.LookAt(on.db)
	}
	if s.debug && !on.c.trace {
		req.tag = taggedWith(req.tag, callers.Site())
	}
	req.gone = func(sec *section) {
		s.mu.Lock()
		delete(s.live, sec)
		s.mu.Unlock()
		release()
	}
	sec, err := on.c.begin(ctx, locks.Identity{User: user}, nil, req)
	if err != nil {
		release()
		return nil, nil, err
	}
	if err := s.add(sec); err != nil {
		sec.unlock()
		return nil, nil, err
	}
	return sec, on, nil
}

// add makes sure that the section does not outlive the Store.
func (s *Store) add(sec *section) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	if sec.reason() == nil {
		s.live[sec] = struct{}{}
	}
	return nil
}

// bind returns a handle all of whose work is inside the section, and which is closed
// with it.
func (on *storeDB) bind(sec *section) *sqlx.DB {
	db := sqlx.NewDb(on.c.bindDB(sec), on.name)
	db.Mapper = on.db.Mapper
	return db
}

// bindDB returns a sql.DB all of whose work is inside the section.
func (c *Connector) bindDB(sec *section) *sql.DB {
	d := *c.driver
	d.bound = sec
	return sql.OpenDB(&boundConnector{c, &d})
}

// keptHandles is how many handles that were given back still say so.
const keptHandles = 32

// takeBack is for a handle whose section has ended. It closes its connections, and an older
// handle.
func (s *Store) takeBack(db *sql.DB) {
	db.SetMaxIdleConns(-1)
	if oldest := s.keep(db); oldest != nil {
		oldest.Close()
	}
}

// keep returns the handle that has to go for db to stay; nil if there is room.
func (s *Store) keep(db *sql.DB) (oldest *sql.DB) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return db
	}
	s.givenBack = append(s.givenBack, db)
	if len(s.givenBack) <= keptHandles {
		return nil
	}
	oldest = s.givenBack[0]
	s.givenBack = slices.Delete(s.givenBack, 0, 1)
	return oldest
}

// A boundConnector opens client connections that are inside a section.
type boundConnector struct {
	c      *Connector
	driver *Driver
}

func (b *boundConnector) Driver() driver.Driver { return b.driver }

func (b *boundConnector) Connect(ctx context.Context) (driver.Conn, error) {
	if ended := b.driver.bound.reason(); ended != nil {
		return nil, givenBack(ended)
	}
	c, err := b.conn(ctx)
	if err != nil {
		return nil, err
	}
	c.bound, c.resident.Bound = b.driver.bound, &b.driver.bound.locks
	if ended := c.bound.locks.Enter(&c.inBound, &c.resident); ended != nil {
		c.Close()
		return nil, givenBack(ended)
	}
	return c, nil
}

// conn returns a client connection to the database that the section is on.
func (b *boundConnector) conn(ctx context.Context) (*conn, error) {
	if b.c.tenancy != nil {
		return b.c.tenancy.connectTo(b.driver.bound.backend)
	}
	ci, err := b.c.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return ci.(*conn), nil
}
