package dblocker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/calmdocs/dblocker/internal/backend"
	"github.com/calmdocs/dblocker/internal/databases"
	"github.com/calmdocs/dblocker/internal/each"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/postgres"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/sqlite"
	"github.com/calmdocs/dblocker/internal/tenants"
	"github.com/calmdocs/dblocker/internal/userid"
)

// userMark stands in a DSN for the user, who then has a database of his own.
const userMark = "{user}"

// A tenancy has the databases of a handle with {user} in its DSN, one for each user, and a table of users' locks for all
// of them. Whoever does something with a user's database has it in use, and it is not closed meanwhile: a client connection
// from its first statement until it goes back to its pool (tenantconn.go), a section as long as it lasts (tenantopen.go).
//
// From a *sql.DB of the program connectorOf gives the Connector, whose tenancy is nil unless it has {user}. There pattern is the
// inner DSN, and dsnOf that of a user; take opens a user's database, and has it in use until leave; a section of
// the user, as by Connector.begin, does so too. Who has the user's exclusive lock may forget it: it is closed with its last user, and whoever waits for
// that lock opens it anew.
type tenancy struct {
	c       *Connector
	pattern string       // the inner DSN, with {user}
	place   userid.Place // of a name of a user
	around  []string     // the names in the pattern that {user} is a part of
	name    string       // of what the users' locks are of; "" if that is the one database that all users have
	maxOpen int          // databases; 0 is no limit
	slots   *rwlock.Lock // one for each server connection, of all databases; nil: no limit
	set     *tenants.Set[string, *tenant]

	gather *rwlock.Lock // of one who opens the databases of several users: two who have some of theirs would wait for each other

	conns atomic.Int64                // of servers, that are open, where slots is not nil
	users atomic.Pointer[locks.Table] // of the database that was opened last, and of all that are open now

	placeWaits rwlock.WaitStats

	schemas []string // of a search_path, that have to be there

	mu     sync.Mutex // guards what follows
	claims map[*databases.Database]claim
	past   Statistics // of those that are closed, as far as they are of one database
	nobody *tenant    // for what belongs to no user, and to several; nil until it is wanted
}

// A tenant is the database of a user, or of nobody.
type tenant struct {
	user    string
	backend *backend.Backend
	prepare prepared // by OnOpen

	opened    time.Time
	observers observers // that are told when it is closed

	closed func() // called when it is closed; nil for nobody's

	mu    sync.Mutex // guards what follows
	free  []*conn    // that no client connection of the program has, the last used last
	ended bool
}

type tenantEntry = tenants.Entry[string, *tenant]

// newTenancy is that of a handle with the pattern as its DSN.
func newTenancy(c *Connector, pattern string) *tenancy {
	if c.engine == sqlite.Engine {
		pattern = sqlite.Absolute(pattern)
	}
	t := &tenancy{c: c, pattern: pattern, claims: make(map[*databases.Database]claim)}
	limits := tenants.Limits{MaxOpen: c.maxOpenDatabases, Unused: c.databaseIdle}
	t.maxOpen = limits.MaxOpen
	if n := c.limits.MaxIdleConns; c.maxIdleConnsSet && n > 0 {
		limits.MaxUnused = max(1, n/min(n, fewIdle))
	}
	t.place, t.around = placeOf(c.engine), userid.NamesWith(pattern, userMark)
	t.set, t.gather = tenants.NewSet[string, *tenant](limits, placesName, c.contain), rwlock.NewLock(placesName, 1)
	id := func(name string) string { return c.engine.Database(strings.ReplaceAll(pattern, userMark, name)) }
	if id(exampleName) == "" || id(exampleName) != id(exampleName+"2") {
		t.name = c.engine.Name + ":" + id(exampleName)
	}
	if c.engine == postgres.Engine {
		t.schemas = userid.SchemasIn(pattern, userMark)
	}
	if n := c.limits.MaxOpenConns; n > 0 {
		t.slots = rwlock.NewLock(fmt.Sprintf("%s=%d", backend.SlotsNamePrefix, n), n)
	}
	return t
}

const (
	defaultOpenDatabases = 100
	placesName           = "one of the databases that may be open by max_open_databases"
)

// take opens the database of a user, if it is not open, and has it in use until leave.
func (t *tenancy) take(ctx context.Context, user string) (*tenantEntry, error) {
	if e := t.set.Get(user); e != nil {
		return e, nil
	}
	return t.takeAnew(ctx, user)
}

func (t *tenancy) takeAnew(ctx context.Context, user string) (*tenantEntry, error) {
	owner := locks.Identity{Owner: marksFrom(ctx).owner}.LockOwner()
	w := t.c.wait()
	w.Turn, w.Stats = user, &t.placeWaits
	w.Hopeless = func(entries []any, waited, self time.Duration) int { return t.stuck(owner, entries, waited, self) }
	e, err := t.set.Take(ctx, user, tenants.Taking[*tenant]{
		Open:  func(context.Context) (*tenant, error) { return t.open(user) },
		Keep:  true,
		Wait:  w,
		Owner: owner,
	})
	return e, t.takeError(user, err)
}

// stuck tells whether no place will ever be free for the owner: each database that is open is one of which somebody has a lasting
// hold who waits for a place too. One that has all of them itself may have goroutines that end soon. It returns 0, or -1 if there is hope.
func (t *tenancy) stuck(owner *rwlock.Owner, entries []any, waited, self time.Duration) int {
	users := t.users.Load() // to open one for nobody would call the driver, which may panic, or take its time
	if owner == nil || users == nil {
		return -1
	}
	waiters, onlyOwn := t.set.Waiters(), true
	waits := func(o *rwlock.Owner) bool { return slices.ContainsFunc(waiters, o.InLine) }
	stuck := make(map[string]bool)
	for _, i := range users.Snapshot() {
		if !i.Waiting && i.Kind != rwlock.Leaf && i.Owner != nil && waits(i.Owner) {
			stuck[i.Key] = true
			onlyOwn = onlyOwn && i.Owner.InLine(owner)
		}
	}
	for _, e := range entries {
		if !stuck[e.(*tenantEntry).Key] {
			return -1
		}
	}
	if onlyOwn && waited < self {
		return -1
	}
	return 0
}

// takeError says in the terms of a user of dblocker why a database could not be had.
func (t *tenancy) takeError(user string, err error) error {
	switch err {
	case nil:
		return nil
	case tenants.ErrClosed:
		return errClosed
	case rwlock.ErrTimeout:
		return &LockError{User: user, Waited: t.c.lockTimeout, Err: ErrLockTimeout, what: fmt.Sprintf("the database of user %s, which another call opens", userid.Brief(user))}
	}
	return placeError(user, t.maxOpen, err)
}

// placeError does so of a wait for one more database.
func placeError(user string, most int, err error) error {
	var w *rwlock.WaitError
	if errors.As(err, &w) {
		known := *w
		known.Hopeless = false // but of places
		err := waitError(&known, locks.Identity{User: user}, fmt.Sprintf("one of the %d databases that max_open_databases allows to be open", most), outOfPlaces)
		if e, ok := err.(*LockError); ok && e.Err == ErrLockTimeout {
			e.blocker = fmt.Sprintf("all are in use, that of user %s among them, which was opened %s ago", userid.Brief(w.Blocker.Tag), inRound(w.Blocker.For))
			e.advice = "rows have to be closed, transactions to end, sections to be unlocked and handles of a Store cancelled, or max_open_databases to be larger; dblocker.Holds shows what each has"
		}
		return err
	}
	return err
}

const outOfPlaces = "end what this request has of other users' databases first, or allow more with max_open_databases"

func (t *tenancy) leave(e *tenantEntry) {
	if e != nil {
		t.set.Leave(e)
	}
}

// open opens the database of a user, and no connection to it.
func (t *tenancy) open(user string) (*tenant, error) {
	began := time.Now()
	dsn, err := t.dsnOf(user)
	if err != nil {
		return nil, err
	}
	b, err := t.openBackend(dsn, user)
	t.c.observers.tell(Event{Kind: EventDatabaseOpened, User: user, Duration: time.Since(began), Err: err})
	if err != nil {
		return nil, err
	}
	if err := t.claim(b.Database, user); err != nil {
		b.Close()
		return nil, err
	}
	t.users.Store(b.Users)
	return &tenant{user: user, backend: b, opened: began, observers: t.c.observers, closed: func() { t.closedOne(b) }}, nil
}

// dsnOf returns the DSN of the user's database.
func (t *tenancy) dsnOf(user string) (string, error) {
	name := userid.Encode(user)
	for _, around := range t.around {
		if err := t.place.Check(strings.ReplaceAll(around, userMark, name), user); err != nil {
			return "", err
		}
	}
	return strings.ReplaceAll(t.pattern, userMark, name), nil
}

// conn returns a client connection to the database.
func (tn *tenant) conn(ctx context.Context, t *tenancy) *conn {
	for {
		switch cn := tn.takeFree(); {
		case cn == nil:
			tn.backend.Retain()
			cn = t.c.newConn(tn.backend)
			cn.tenancy = t
			return cn
		case cn.pooled:
			cn.pooled = false
			cn.noteTaken()
			return cn
		case cn.ResetSession(ctx) == nil:
			return cn
		default:
			cn.Close()
		}
	}
}

// takeFree takes out the client connection that was last used; nil if there is none.
func (tn *tenant) takeFree() (cn *conn) {
	tn.mu.Lock()
	defer tn.mu.Unlock()
	if n := len(tn.free); n > 0 {
		cn = tn.free[n-1]
		tn.free = tn.free[:n-1]
	}
	return cn
}

// putBack ends the use of a client connection. It is closed if it is of no more use. If it is in a transaction that is written in SQL, which stays open
// for who comes next, as on the bare driver, it keeps the database in use.
func (tn *tenant) putBack(cn *conn) {
	keeps := false
	defer func() { // also if the driver panics
		if !keeps {
			cn.noteLeft()
		}
	}()
	if cn.spent {
		cn.spent = false // the Result locks the connection that database/sql has, which is another
	}
	valid := cn.IsValid()
	tn.mu.Lock()
	if valid = valid && !tn.ended && len(tn.free) < maxFree; valid {
		tn.free = append(tn.free, cn)
		keeps = !cn.pooled
	}
	tn.mu.Unlock()
	if !valid {
		closeFree(cn)
	}
}

// noteLeft ends the use of the database at which c is, if it is not a tenant's for nobody.
func (c *conn) noteLeft() { c.tenancy.leave(c.at.Swap(nil)) }

// maxFree is how many client connections are kept for the next statements of one user.
const maxFree = 8

// closeFree closes a client connection that the program does not have.
func closeFree(cn *conn) {
	cn.pooled = false // or the program's sql.DB would be taken for one that keeps none
	cn.Close()
}

// Close implements [tenants.Database]. Nobody uses it.
func (tn *tenant) Close() error {
	tn.backend.Unused()
	return tn.end()
}

// end closes it for those who use it too.
func (tn *tenant) end() error {
	tn.mu.Lock()
	free := tn.free
	ended := tn.ended
	tn.free, tn.ended = nil, true
	tn.mu.Unlock()
	each.Do(free, closeFree)
	if ended {
		return nil
	}
	if tn.user != "" {
		tn.observers.tell(Event{Kind: EventDatabaseEvicted, User: tn.user, Duration: time.Since(tn.opened)})
	}
	if tn.closed != nil {
		defer tn.closed()
	}
	return tn.backend.Close()
}

// Refuse implements [tenants.Database].
func (tn *tenant) Refuse() { tn.end() }

// forget closes the connections that nobody uses, and lets nobody open another one.
func (tn *tenant) forget() {
	tn.backend.Forget()
}

// checkNobodys refuses a statement of nobody for which there is no database.
func (t *tenancy) checkNobodys() error {
	if t.name == "" || t.c.engine == sqlite.Engine || t.c.untaggedDatabase != "" {
		return nil
	}
	return restated{ErrNoUser, fmt.Sprintf("%v; a SELECT without FROM needs none if the option untagged_database names a database", ErrNoUser)}
}

// forNobody returns what is opened for statements that belong to no user, and for sections of several.
func (t *tenancy) forNobody() (*tenant, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-t.c.closed:
		return nil, errClosed
	default:
	}
	if t.nobody == nil {
		b, err := t.openBackend(t.dsnOfNobody(), "")
		if err != nil {
			return nil, err
		}
		t.nobody = &tenant{backend: b}
	}
	return t.nobody, nil
}

// dsnOfNobody is the DSN of forNobody.
func (t *tenancy) dsnOfNobody() string {
	if t.c.engine == sqlite.Engine {
		return ":memory:"
	}
	name := t.c.untaggedDatabase
	if name == "" {
		name = "nobody"
	}
	return strings.ReplaceAll(t.pattern, userMark, name)
}

// close closes all databases, those in use with their last user.
func (t *tenancy) close() {
	t.set.Close()
	t.mu.Lock()
	nobody := t.nobody
	t.mu.Unlock()
	if nobody != nil {
		nobody.Close()
	}
	t.set.Wait()
}
