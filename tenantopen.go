package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/calmdocs/dblocker/internal/backend"
	"github.com/calmdocs/dblocker/internal/databases"
	"github.com/calmdocs/dblocker/internal/drivers"
	"github.com/calmdocs/dblocker/internal/engines"
	"github.com/calmdocs/dblocker/internal/mysql"
	"github.com/calmdocs/dblocker/internal/redact"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqlite"
	"github.com/calmdocs/dblocker/internal/userid"
)

// tenantConfig is what the options say of databases of users.
type tenantConfig struct {
	maxOpenDatabases    int
	maxOpenDatabasesSet bool
	maxIdleConnsSet     bool         // by an option: then it is for all databases together
	onceLogger          *slog.Logger // of what is said when a database is opened; nil if all have one
	tenantKey           string       // the last one of tenantKeys that was given; "" if none was
	databaseIdle        time.Duration
	creates             bool
	untaggedDatabase    string
	onOpen              func(ctx context.Context, user string, db *sql.DB) error
}

// MaxOpenDatabases is how many databases of users may be open at once (DSN: max_open_databases), where each
// has one: with {user} in the DSN, or with a [DSNFunc] or [ConnectFunc]. The one that nobody has used for the longest is closed for
// one more, and from 16 on, while users have to wait for that, one ahead; where all are in use, the next waits. 0 is no limit. The default with {user} is 100. With the functions of a [Store] there is no limit, but only 16 that
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

// contain calls f where a panic must go no further: see [server.Contain].
func (c *config) contain(f func()) { server.Contain(c.logger, f) }

// setUntaggedDatabase takes only names that cannot change what else the DSN says.
func (c *config) setUntaggedDatabase(v string) error {
	if v == "" || strings.Trim(v, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "" {
		return errBadValue
	}
	c.untaggedDatabase = v
	return nil
}

// tenantKeys are the options that mean nothing where all users have one database.
var tenantKeys = []string{"max_open_databases", "database_idle", "create", "untagged_database"}

// exampleName stands for the name of any user.
const exampleName = "u0example"

// patternExample returns the DSN, with a name in it if it has {user}; or says why that cannot be.
func (c *config) patternExample(dsn string) (example string, isPattern bool, err error) {
	if near := likeUserMark.FindString(strings.ReplaceAll(redact.WithoutPassword(dsn), userMark, exampleName)); near != "" {
		return "", false, fmt.Errorf("dblocker: the DSN has %s, which does not stand for the user, so that all users would share one database; write %s", near, userMark)
	}
	if !strings.Contains(dsn, userMark) {
		return dsn, false, c.checkOneDatabase()
	}
	switch {
	case c.engine == engines.Generic:
		err = fmt.Errorf("dblocker: %s stands in the DSN of a driver whose engine is not known, so nobody knows which databases that would be: name the engine with the option dialect", userMark)
	case c.engine == sqlite.Engine && sqlite.FilePattern(dsn, userMark) == "":
		err = fmt.Errorf("dblocker: %s stands in the DSN of a SQLite database, but not in the path of a file, so that users would share one, or lose what is only in memory; write for example sqlite3:data/%s.db", userMark, userMark)
	}
	return strings.ReplaceAll(dsn, userMark, exampleName), true, err
}

// checkOneDatabase refuses options that would do nothing where the DSN has no {user}.
func (c *config) checkOneDatabase() error {
	switch hasFunc := c.connect != nil || c.shardDSN != nil; {
	case c.onOpen != nil:
		return fmt.Errorf("dblocker: the option OnOpen is for handles with a database for each user, and the DSN has no %s", userMark)
	case c.tenantKey != "" && !hasFunc:
		return fmt.Errorf("dblocker: the option %s is for handles with a database for each user, and the DSN has no %s; leave it out", c.tenantKey, userMark)
	}
	return nil
}

// likeUserMark is what somebody may write who means {user}.
var likeUserMark = regexp.MustCompile(`(?i)(\{|%7B)\s*users?[ _-]?(id|name)?\s*(\}|%7D)`)

// readMark returns a DSN with {user} in place of its percent-encoded form, as package net/url writes it.
func readMark(dsn string) string { return encodedMark.ReplaceAllLiteralString(dsn, userMark) }

var encodedMark = regexp.MustCompile(`(?i:%7B)user(?i:%7D)`)

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

// openBackend opens what is behind a DSN, for a user or for nobody.
func (t *tenancy) openBackend(dsn, user string) (*backend.Backend, error) {
	inner, err := t.c.openInner(t.c.driver.Unwrap(), dsn)
	if err != nil {
		return nil, redact.ParseError(err, dsn)
	}
	if user != "" {
		if err := t.makePlace(user, sqlite.Of(inner)); err != nil {
			drivers.Close(inner)
			return nil, err
		}
	}
	limits := t.c.limits
	limits.MaxIdleConns = min(limits.MaxIdleConns, fewIdle)
	cfg := backend.Config{Inner: inner, DSN: &dsn, Limits: limits, Pattern: t.name, User: user, Slots: t.slots}
	if t.slots != nil {
		cfg.Room = (*connRoom)(t)
	}
	if user != "" {
		cfg.ExplainDial = func(err error) error { return explainDial(user, err) }
	}
	b, err := t.c.openAs(cfg)
	if err != nil {
		drivers.Close(inner)
	}
	return b, err
}

// fewIdle is how many unused server connections each of many databases keeps.
const fewIdle = 2

// A connRoom is a tenancy as what counts the server connections of all databases: max_open_conns bounds those that are
// open, not only those in use. For one more it closes unused ones, of the databases first that nobody has used for long.
type connRoom tenancy

func (r *connRoom) Come() {
	most := int64(r.c.limits.MaxOpenConns)
	if r.conns.Add(1) <= most {
		return
	}
	for _, tn := range r.set.Open() {
		if tn.backend.CloseIdle(); r.conns.Load() <= most {
			return
		}
	}
}

func (r *connRoom) Gone() { r.conns.Add(-1) }

// makePlace makes the directory of a SQLite file, or looks whether the file is there if it is not to be made.
func (t *tenancy) makePlace(user string, inner *sqlite.Connector) error {
	path := inner.Path()
	if path == "" {
		return nil
	}
	if err := t.refuseLink(user, path); err != nil {
		return err
	}
	if t.c.creates && !inner.MakesFile() {
		return nil // the driver says what it thinks of a file that is not there
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

// refuseLink refuses a file, or a directory, that is a symbolic link to what the pattern has for another user.
func (t *tenancy) refuseLink(user, path string) error {
	real, err := filepath.EvalSymlinks(path)
	if err != nil || real == path {
		return nil // it is not there, or no link
	}
	pattern := sqlite.FilePattern(t.pattern, userMark)
	for _, p := range []string{pattern, sqlite.ResolvePath(pattern)} {
		if other, ok := userid.UserOfPath(p, userMark, real); ok && other != user {
			return sharedFile(user, other)
		}
	}
	return nil
}

func sharedFile(user, other string) error {
	return fmt.Errorf("dblocker: the file of user %s is the file of user %s too, by a link: give each user a file of his own", userid.Brief(user), userid.Brief(other))
}

// claim notes that a database is a user's. It is an error if it is another one's, by a link that no name shows.
func (t *tenancy) claim(d *databases.Database, user string) error {
	if t.name == "" {
		return nil // all have one
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.claims[d]
	if c.times > 0 && c.user != user {
		return sharedFile(user, c.user)
	}
	t.claims[d] = claim{user, c.times + 1}
	return nil
}

// closedOne takes back the claim of a database that is closed, and keeps its counts.
func (t *tenancy) closedOne(b *backend.Backend) {
	st, d := b.Servers.Peek(), b.Database
	t.mu.Lock()
	defer t.mu.Unlock()
	st.OpenConnections, st.InUse, st.Idle = 0, 0, 0
	t.past.add(b, st)
	t.past.Statements.Kept = 0
	if c := t.claims[d]; c.times > 1 {
		t.claims[d] = claim{c.user, c.times - 1}
	} else {
		delete(t.claims, d)
	}
}

// A claim is of a user whose database is open. It is so twice while it is opened again before it is closed.
type claim struct {
	user  string
	times int
}

// ErrNoDatabase is returned, on a handle with {user} in its DSN, for a user who has no database, and gets none: with create=off,
// where a schema in a search_path is not there, or the server does not know the database.
var ErrNoDatabase = errors.New("dblocker: this user has no database")

// A noDatabaseError is ErrNoDatabase of one user.
type noDatabaseError struct {
	user, why string
	err       error // of the server; may be nil
}

func noDatabase(user, why string) error { return &noDatabaseError{user: user, why: why} }

func (e *noDatabaseError) Error() string {
	return fmt.Sprintf("dblocker: user %s has no database: %s", userid.Brief(e.user), e.why)
}

func (e *noDatabaseError) Unwrap() []error {
	if e.err == nil {
		return []error{ErrNoDatabase}
	}
	return []error{ErrNoDatabase, e.err}
}

// explainDial says of the error of a server that does not know the user's database what it means.
func explainDial(user string, err error) error {
	var state interface{ SQLState() string }
	if mysql.ErrorNumber(err) == 1049 || errors.As(err, &state) && state.SQLState() == "3D000" {
		return &noDatabaseError{user, err.Error(), err}
	}
	return err
}
