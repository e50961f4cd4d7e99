package dblocker

import (
	"cmp"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/calmdocs/dblocker/internal/backend"
	"github.com/calmdocs/dblocker/internal/drivers"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqlite"
	"github.com/calmdocs/dblocker/internal/userid"
)

// files returns those of the users, if each has one: if the handle has {user} in its DSN, and that is of SQLite.
func (t *tenancy) files() (f userid.Files, ok bool) {
	if t == nil || t.c.engine != sqlite.Engine {
		return f, false
	}
	path := sqlite.Of(t.c.inner).Path() // of an example
	return userid.Files{Pattern: strings.ReplaceAll(path, exampleName, userMark), Mark: userMark}, true
}

// unsupportedHere is errors.ErrUnsupported with what to use instead.
func unsupportedHere(format string, args ...any) error {
	return restated{errors.ErrUnsupported, "dblocker: " + fmt.Sprintf(format, args...)}
}

// userFor returns the user of a call that only a user can make: that of the context, or of the handle of a Store, which stays on the database of its
// user.
func userFor(ctx context.Context, bound *section) (string, error) {
	id, tagged := identityFrom(ctx)
	switch {
	case id.Err != nil:
		return "", id.Err
	case bound != nil && bound.locks.Identity().User != "":
		of := bound.locks.Identity().User
		if tagged && id.User != of {
			return "", fmt.Errorf("dblocker: the handle is that of user %s, and the context of the call is of user %s: take a handle of that user from the Store", userid.Brief(of), userid.Brief(id.User))
		}
		return of, nil
	case !tagged:
		return "", errSectionOfNobody
	}
	return id.User, nil
}

// named is the name of the context's user, if it has one.
func named(ctx context.Context) string {
	if id, tagged := identityFrom(ctx); tagged && id.Err == nil {
		return " " + userid.Encode(id.User)
	}
	return ""
}

// RemoveUser deletes the database of the context's user, with all its files, under the user's exclusive lock, and waits for that as [Lock] does.
// Whoever waits for that lock, and whoever comes later, finds a new and empty database, or gets [ErrNoDatabase] with create=off: remove
// the user elsewhere first, so that nobody comes. A user who has no file gets ErrNoDatabase.
//
// With {user} in the name of a directory, that is deleted too if nothing else is in it. Files of other names are not.
// If another process has the database open, as far as SQLite shows that, nothing is deleted. With lock_scope=database the lock file stays, since
// others may have it open.
//
// It is for SQLite with {user} in the DSN. Elsewhere the error is [errors.ErrUnsupported], and says what to use.
func RemoveUser(ctx context.Context, db Handle) error {
	if ctx == nil {
		return errNilContext
	}
	c, bound, err := connectorOf(ctx, db)
	if err != nil {
		return err
	}
	files, ok := c.tenancy.files()
	switch {
	case !ok && c.tenancy != nil:
		return unsupportedHere("RemoveUser is for SQLite; on a server send DROP SCHEMA or DROP DATABASE with the name%s yourself, on a handle without {user}, inside dblocker.Lock of the user; "+
			"PostgreSQL has DROP DATABASE ... WITH (FORCE), which closes the connections that are still there", named(ctx))
	case !ok:
		return unsupportedHere("RemoveUser is for a handle with a database for each user, with {user} in its DSN; this one has one for all: delete the rows of the user")
	}
	user, err := userFor(ctx, bound)
	if err != nil {
		return err
	}
	if there, err := files.IsThere(user); err != nil || !there {
		return cmp.Or(err, noDatabase(user, noFile))
	}
	return c.tenancy.remove(ctx, files, bound, user)
}

const noFile = "its file is not there"

// remove takes the lock, of nobody's database, and deletes the files.
func (t *tenancy) remove(ctx context.Context, files userid.Files, bound *section, user string) error {
	b, err := t.retainNobody()
	if err != nil {
		return err
	}
	id, _ := identityFrom(ctx)
	if bound != nil && id.Owner == nil {
		id.Owner = bound.locks.Identity().Owner
	}
	s, err := t.c.beginOn(ctx, b, locks.Identity{User: user, Owner: id.Owner}, bound, sectionRequest{mode: Exclusive, tag: "RemoveUser"})
	if err != nil {
		return err
	}
	defer s.unlock()
	unbar, err := t.bar(s, user)
	if err != nil {
		return err
	}
	defer unbar()
	path := files.Of(user)
	if err := t.checkUnused(s, path, user); err != nil {
		return err
	}
	if err := removeFiles(path, t.c.lockScope == DatabaseScope); err != nil {
		return err
	}
	for _, dir := range files.Dirs(user) {
		if os.Remove(dir) != nil {
			break
		}
	}
	return nil
}

// bar closes all connections to the database of a user, whose lock the section has, and lets nobody open one until the end: not to look at the file
// either, as those do who are going to wait for the lock. SQLite would make a file where one was just deleted, or delete one that was
// just made.
func (t *tenancy) bar(s *section, user string) (end func(), err error) {
	w := t.c.wait()
	e, end, err := t.set.Bar(s, user, s.locks.Identity().LockOwner(), w)
	if err != nil {
		return nil, t.takeError(user, err)
	}
	if e == nil {
		return end, nil
	}
	defer t.leave(e)
	e.On.forget()
	if err := awaitClosed(s, e.On.backend, user, t.c.selfWait); err != nil {
		end()
		return nil, err
	}
	return end, nil
}

// checkUnused looks whether anybody else has a database open in WAL mode: whoever is the last to close it deletes the file -shm. It may
// be there since a process did not get to that, so we open and close the database.
func (t *tenancy) checkUnused(ctx context.Context, path, user string) error {
	isShared := func() bool { _, err := os.Lstat(path + "-shm"); return err == nil }
	if !isShared() {
		return nil
	}
	dsn, err := t.dsnOf(user)
	if err != nil {
		return err
	}
	inner, err := t.c.engine.Open(t.c.logger, t.c.driver.Unwrap(), dsn)
	if err != nil {
		return err
	}
	defer t.c.contain(func() { drivers.Close(inner) })
	err = t.lookInto(ctx, inner)
	if err != nil && ctx.Err() != nil {
		return err
	}
	if err == nil && isShared() { // else it is broken
		if err := t.tryWriting(ctx, inner); err != nil && strings.Contains(err.Error(), "readonly") {
			return fmt.Errorf("dblocker: RemoveUser: this process may not write the database of user %s; nothing is deleted: %w", userid.Brief(user), err)
		}
		return fmt.Errorf("dblocker: RemoveUser: another process, or another handle, has the database of user %s open; nothing is deleted; "+
			"try again when that one has closed it: a handle of dblocker does when nobody has used it for database_idle", userid.Brief(user))
	}
	return nil
}

// lookInto opens a database, so that SQLite reads it, and closes it, whatever the driver does.
func (t *tenancy) lookInto(ctx context.Context, inner driver.Connector) error {
	return t.onceOpen(ctx, inner, "SELECT count(*) FROM sqlite_master")
}

// tryWriting does so for a write, which it does not wait for.
func (t *tenancy) tryWriting(ctx context.Context, inner driver.Connector) error {
	return t.onceOpen(ctx, inner, "PRAGMA busy_timeout = 0", "BEGIN IMMEDIATE")
}

func (t *tenancy) onceOpen(ctx context.Context, inner driver.Connector, statements ...string) error {
	ci, err := inner.Connect(ctx)
	if err != nil {
		return err
	}
	cfg := t.c.forServers()
	sc := server.NewConn(ci, &cfg)
	defer sc.Close()
	for _, s := range statements {
		if _, err = sc.QueryText(ctx, s); err != nil {
			break
		}
	}
	return err
}

// awaitClosed waits until no connection is open any more.
func awaitClosed(ctx context.Context, b *backend.Backend, user string, selfWait time.Duration) error {
	deadline := time.Now().Add(selfWait)
	for pause := 100 * time.Microsecond; b.Servers.CloseIdle() > 0; pause = min(2*pause, 20*time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("dblocker: RemoveUser: this request itself has rows or a sql.Conn open on the database of user %s: end them first; nothing is deleted", userid.Brief(user))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
	return nil
}

// removeFiles deletes a database. Its own file goes first: what else may be left, if the machine stops, is of no database, and SQLite deletes
// it when there is an empty one.
func removeFiles(path string, keepLocks bool) error {
	for _, suffix := range []string{"", "-wal", "-shm", "-journal", "-locks"} {
		if suffix == "-locks" && keepLocks {
			continue
		}
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
