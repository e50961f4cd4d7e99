package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/calmdocs/dblocker/internal/backend"
	"github.com/calmdocs/dblocker/internal/engines"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/mysql"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqlite"
	"github.com/calmdocs/dblocker/internal/userid"
)

// tenantConfig is what the options say of databases of users.
type tenantConfig struct {
	maxOpenDatabases    int
	maxOpenDatabasesSet bool
	databaseIdle        time.Duration
	creates             bool
	untaggedDatabase    string
	onOpen              func(ctx context.Context, user string, db *sql.DB) error
}

// MaxOpenDatabases is how many databases of users may be open at once (DSN: max_open_databases), where each
// has one: with {user} in the DSN, or with a [DSNFunc] or [ConnectFunc]. The one that nobody has used for the longest is closed for
// one more; where all are in use, the next waits. 0 is no limit. The default with {user} is 100. With the functions of a [Store] there is no limit, but only 16 that
// nobody uses stay open.
func MaxOpenDatabases(n int) Option { return option("max_open_databases", fmt.Sprint(n)) }

// DatabaseIdle is how long a database of a user stays open that nobody uses (DSN: database_idle); it may be half as much
// longer. 0 closes it at once. The default is a minute.
func DatabaseIdle(d time.Duration) Option { return option("database_idle", d.String()) }

// CreateDatabases tells whether the file of a user who has none is made (DSN: create=on or off), and the directories that it is in. It is on by
// default. With off, such a user gets [ErrNoDatabase]. On a server, databases and schemas are never made.
func CreateDatabases(on bool) Option {
	if on {
		return option("create", "on")
	}
	return option("create", "off")
}

// UntaggedDatabase names what stands for {user} in the DSN of a server for the few statements that belong to no user (DSN: untagged_database): a
// SELECT without FROM, by which ORMs ask for the version. Without it they get [ErrNoUser] where the database is another one for
// each user. SQLite has a database in memory for them.
func UntaggedDatabase(name string) Option { return option("untagged_database", name) }

// OnOpen has f called each time the database of a user is opened, also after it was closed for want of use: migrations, which must
// be cheap when there are none. It is for handles with {user} in the DSN, and has no form in one. f runs under that user's exclusive lock, before anybody's
// statement, and what it does with db, the database of that user only, is inside that section, with whatever context. Its
// error, or panic, is returned to all who wait for the database, and the next call runs f again.
func OnOpen(f func(ctx context.Context, user string, db *sql.DB) error) Option {
	return func(c *config) error {
		if f == nil {
			return errors.New("dblocker: OnOpen: the function is nil; leave the option out")
		}
		c.onOpen = f
		return nil
	}
}

// setUntaggedDatabase takes only names that cannot change what else the DSN says.
func (c *config) setUntaggedDatabase(v string) error {
	if v == "" || strings.Trim(v, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "" {
		return errBadValue
	}
	c.untaggedDatabase = v
	return nil
}

// exampleName stands for the name of any user.
const exampleName = "u0example"

// patternExample returns the DSN, with a name in it if it has {user}; or says why that cannot be.
func (c *config) patternExample(dsn string) (example string, isPattern bool, err error) {
	if !strings.Contains(dsn, userMark) {
		if c.onOpen != nil {
			return "", false, fmt.Errorf("dblocker: the option OnOpen is for handles with a database for each user, and the DSN has no %s", userMark)
		}
		return dsn, false, nil
	}
	switch {
	case c.engine == engines.Generic:
		err = fmt.Errorf("dblocker: %s stands in the DSN of a driver whose engine is not known, so nobody knows which databases that would be: name the engine with the option dialect", userMark)
	case c.engine == sqlite.Engine && !sqlite.IsFilePattern(dsn, userMark):
		err = fmt.Errorf("dblocker: %s stands in the DSN of a SQLite database, but not in the path of a file, so that users would share one, or lose what is only in memory; write for example sqlite3:data/%s.db", userMark, userMark)
	}
	return strings.ReplaceAll(dsn, userMark, exampleName), true, err
}

// placeOf says what names of users can be on an engine.
func placeOf(e *server.Engine) userid.Place {
	switch e {
	case sqlite.Engine:
		return userid.FileName
	case mysql.Engine:
		return userid.MySQL
	}
	return userid.PostgreSQL
}

// namesWith returns the names in a pattern that {user} is a part of, with what stands around it.
func namesWith(pattern string) (names []string) {
	outside := func(r rune) bool { return strings.ContainsRune("/\\:?&=@()'\" ,;#", r) }
	for _, name := range strings.FieldsFunc(pattern, outside) {
		if strings.Contains(name, userMark) {
			names = append(names, name)
		}
	}
	return names
}

// openBackend opens what is behind a DSN, for a user or for nobody.
func (t *tenancy) openBackend(dsn, user string) (*backend.Backend, error) {
	inner, err := t.c.engine.Open(t.c.logger, t.c.driver.Unwrap(), dsn)
	if err != nil {
		return nil, err
	}
	if user != "" {
		if err := t.makePlace(user, sqlite.Of(inner).Path()); err != nil {
			return nil, err
		}
	}
	limits := t.c.limits
	limits.MaxIdleConns = min(limits.MaxIdleConns, fewIdle)
	return t.c.openAs(backend.Config{Inner: inner, DSN: &dsn, Limits: limits, Pattern: t.name, User: user, Slots: t.slots})
}

// fewIdle is how many unused server connections each of many databases keeps.
const fewIdle = 2

// makePlace makes the directory of a SQLite file, or looks whether the file is there if it is not to be made.
func (t *tenancy) makePlace(user, path string) error {
	if path == "" {
		return nil
	}
	if t.c.creates {
		return os.MkdirAll(filepath.Dir(path), 0o777)
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return noDatabase(user, "its file is not there, and create=off")
	} else if err != nil {
		return err
	}
	return nil
}

// ErrNoDatabase is returned, on a handle with {user} in its DSN, for a user who has no database, and gets none: with create=off, or
// where the schema in a search_path is not there.
var ErrNoDatabase = errors.New("dblocker: this user has no database")

func noDatabase(user, why string) error {
	return restated{ErrNoDatabase, fmt.Sprintf("dblocker: user %q has no database: %s", user, why)}
}

// A prepared is what OnOpen has done to a database since it was opened.
type prepared struct {
	done    atomic.Bool
	running atomic.Pointer[section] // that it runs in; nil if it does not run

	mu    sync.Mutex // guards what follows
	fails int
	err   error // of the last one that failed
}

func (p *prepared) failed() (fails int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fails, p.err
}

// ready has the database prepared, unless it is.
func (t *tenancy) ready(ctx context.Context, tn *tenant) error {
	if t.c.onOpen == nil || tn.prepare.done.Load() {
		return nil
	}
	return t.prepare(ctx, tn)
}

// prepare runs OnOpen under the user's exclusive lock. Whoever has waited for that meanwhile, and finds that it has failed, has the same error.
func (t *tenancy) prepare(ctx context.Context, tn *tenant) error {
	p := &tn.prepare
	if s := p.running.Load(); s != nil && marksFrom(ctx).section.isInside(s) {
		return nil
	}
	before, _ := p.failed()
	id, _ := identityFrom(ctx)
	tn.backend.Retain()
	s, err := t.c.beginOn(ctx, tn.backend, locks.Identity{User: tn.user, Owner: id.Owner}, nil, sectionRequest{mode: Exclusive, tag: "OnOpen"})
	if err != nil {
		return err
	}
	defer s.unlock()
	if p.done.Load() {
		return nil
	}
	if fails, err := p.failed(); fails > before {
		return err
	}
	p.running.Store(s)
	defer p.running.Store(nil)
	err = t.callOnOpen(s, tn)
	if err == nil {
		p.done.Store(true)
	} else if ctx.Err() == nil { // else the error may be that of its context
		p.mu.Lock()
		p.fails, p.err = p.fails+1, err
		p.mu.Unlock()
	}
	return err
}

// callOnOpen calls the program's function.
func (t *tenancy) callOnOpen(s *section, tn *tenant) (err error) {
	db := t.c.bindDB(s)
	defer db.Close()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("dblocker: OnOpen panicked for user %q: %v", tn.user, p)
		}
	}()
	return t.c.onOpen(s, tn.user, db)
}

// begin returns a section of the user id, which has that user's database in use; or one of several users, or of all, whose
// locks are in the table that all databases of the handle share.
func (t *tenancy) begin(ctx context.Context, id locks.Identity, bound *section, req sectionRequest) (*section, error) {
	user := id.User
	if len(req.users) == 1 {
		user = req.users[0]
	}
	if req.all || len(req.users) > 1 {
		return t.beginOfSeveral(ctx, id, bound, req)
	}
	e, err := t.take(ctx, user)
	if err != nil {
		return nil, err
	}
	leave := sync.OnceFunc(func() { t.leave(e) }) // the section may have begun, and ended, if there is an error
	began := false
	defer func() {
		if !began {
			leave()
		}
	}()
	if err := t.ready(ctx, e.On); err != nil {
		return nil, err
	}
	gone := req.gone
	req.gone = func(s *section) {
		if gone != nil {
			defer gone(s)
		}
		leave()
	}
	e.On.backend.Retain()
	s, err := t.c.beginOn(ctx, e.On.backend, id, bound, req)
	began = err == nil
	return s, err
}

// beginOfSeveral begins a section that is on no user's database. What is done inside has that of its user in use.
func (t *tenancy) beginOfSeveral(ctx context.Context, id locks.Identity, bound *section, req sectionRequest) (*section, error) {
	if req.pin {
		return nil, errPinOfSeveral
	}
	b, err := t.retainNobody()
	if err != nil {
		return nil, err
	}
	return t.c.beginOn(ctx, b, id, bound, req)
}

var errPinOfSeveral = errors.New("dblocker: Pin is for a section of one user, on a handle with a database for each user: begin one with dblocker.Lock for each of them, inside this one")

// retainNobody returns what is behind sections of several users, retained for the caller.
func (t *tenancy) retainNobody() (*backend.Backend, error) {
	tn, err := t.forNobody()
	if err != nil {
		return nil, err
	}
	tn.backend.Retain()
	return tn.backend, nil
}

// lockTable returns the users' locks of all databases; nil if there was no call for it yet.
func (t *tenancy) lockTable() *locks.Table {
	b, err := t.retainNobody()
	if err != nil {
		return nil
	}
	defer b.Release()
	return b.Users
}
