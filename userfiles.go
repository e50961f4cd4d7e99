package dblocker

import (
	"bytes"
	"cmp"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
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

// Backup writes a copy of the database of the context's user to a new file, under that user's shared lock: as it is at one moment, while others
// read it. On a handle with one database for all it is a copy of that one; there the context need not have a user.
//
// The copy is in WAL mode if the database is. It is there as a whole or not at all. It is on disk when Backup returns, and has the rights of the database file. A file that is there already is not
// touched: the error is [fs.ErrExist]. In a transaction of its own, what that has not committed is not in the copy.
//
// It is for SQLite. On a server the error is [errors.ErrUnsupported], and says what to use.
func Backup(ctx context.Context, db Handle, path string) error {
	if ctx == nil {
		return errNilContext
	}
	c, bound, err := connectorOf(ctx, db)
	if err != nil {
		return err
	}
	if c.engine != sqlite.Engine {
		return c.noBackup(ctx)
	}
	if path == "" {
		return errors.New("dblocker: Backup: the path is empty")
	}
	source := sqlite.Of(c.inner).Path()
	if files, ok := c.tenancy.files(); ok {
		user, err := userOf(ctx, bound)
		if err != nil {
			return err
		}
		if there, err := files.IsThere(user); err != nil || !there {
			return cmp.Or(err, noDatabase(user, noFile))
		}
		source = files.Of(user)
	}
	return copyTo(withCopying(ctx), db, source, path)
}

// userOf returns the user of a call that only a user can make: that of the context, or of the handle of a Store, which stays on the database of its
// user.
func userOf(ctx context.Context, bound *section) (string, error) {
	id, tagged := identityFrom(ctx)
	switch {
	case id.Err != nil:
		return "", id.Err
	case bound != nil && bound.locks.Identity().User != "":
		of := bound.locks.Identity().User
		if tagged && id.User != of {
			return "", fmt.Errorf("dblocker: the handle is that of user %q, and the context of the call is of user %q: take a handle of that user from the Store", of, id.User)
		}
		return of, nil
	case !tagged:
		return "", errSectionOfNobody
	}
	return id.User, nil
}

func (c *Connector) noBackup(ctx context.Context) error {
	return unsupportedHere("Backup is for SQLite; on a server use its own tool, pg_dump or mysqldump, for the user's schema or database%s", named(ctx))
}

// named is the name of the context's user, if it has one.
func named(ctx context.Context) string {
	if id, tagged := identityFrom(ctx); tagged && id.Err == nil {
		return " " + userid.Encode(id.User)
	}
	return ""
}

// copyTo copies the database that ctx leads to. The copy gets its name when it is complete.
func copyTo(ctx context.Context, db Handle, source, path string) (err error) {
	if _, err := os.Lstat(path); err == nil {
		return &fs.PathError{Op: "backup", Path: path, Err: fs.ErrExist}
	}
	part, err := newPart(source, path)
	if err != nil {
		return err
	}
	defer os.Remove(part)
	into := part
	if source == "" {
		into = outOfMemory(part)
	}
	wal, err := copyInto(ctx, db, into)
	if err != nil {
		return err
	}
	if info, err := os.Stat(part); err != nil || info.Size() == 0 {
		return cmp.Or(err, errors.New("dblocker: Backup: SQLite has written its copy elsewhere, since the database is not in an ordinary file; nothing is kept"))
	}
	if wal {
		if err := putIntoWAL(part); err != nil {
			return err
		}
	}
	if err := syncFile(part); err != nil {
		return err
	}
	if err := giveName(part, path); err != nil {
		return err
	}
	return syncFile(filepath.Dir(path))
}

// newPart makes an empty file beside path, with the rights of the file source, where there is one.
func newPart(source, path string) (part string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".part-*")
	if err != nil {
		return "", err
	}
	defer f.Close()
	if info, err := os.Stat(source); source != "" && err == nil {
		f.Chmod(info.Mode().Perm()) // else it stays as it is: for nobody else
	}
	return f.Name(), nil
}

// outOfMemory is the path for SQLite where the database is in memory. Else the copy would be there too.
func outOfMemory(path string) string {
	vfs := "unix"
	if runtime.GOOS == "windows" {
		vfs = "win32"
	}
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: "vfs=" + vfs}).String()
}

// copyInto has SQLite copy the database, and tells whether that is in WAL mode, which the copy is not.
func copyInto(ctx context.Context, db Handle, path string) (wal bool, err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	rows, err := conn.QueryContext(ctx, "VACUUM INTO ?", path)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	for rows.Next() {
	}
	if err := rows.Err(); err != nil {
		return false, err
	}
	var journal string
	err = conn.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&journal)
	return journal == "wal", err
}

// putIntoWAL makes a database file that nobody has open one in WAL mode: so the header says, see https://www.sqlite.org/fileformat.html#file_format_version_numbers. One that is
// encrypted has another header, and stays as it is.
func putIntoWAL(path string) error {
	const magic, version = "SQLite format 3\x00", "\x01\x01"
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	header := make([]byte, 20)
	if _, err := io.ReadFull(f, header); err != nil {
		return err
	}
	if !bytes.HasPrefix(header, []byte(magic)) || string(header[18:20]) != version {
		return nil
	}
	_, err = f.WriteAt([]byte{2, 2}, 18)
	return err
}

// giveName gives a file its name, which no other file has.
func giveName(part, path string) error {
	err := os.Link(part, path)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	if _, err := os.Lstat(path); err == nil { // a file system without links
		return &fs.PathError{Op: "backup", Path: path, Err: fs.ErrExist}
	}
	return os.Rename(part, path)
}

// syncFile puts a file, or the names in a directory, on disk. Some systems do not do so for a directory.
func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		f.Sync()
		return nil
	}
	return f.Sync()
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
	user, err := userOf(ctx, bound)
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
			return fmt.Errorf("dblocker: RemoveUser: this process may not write the database of user %q; nothing is deleted: %w", user, err)
		}
		return fmt.Errorf("dblocker: RemoveUser: another process, or another handle, has the database of user %q open; nothing is deleted; "+
			"try again when that one has closed it: a handle of dblocker does when nobody has used it for database_idle", user)
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
			return fmt.Errorf("dblocker: RemoveUser: this request itself has rows or a sql.Conn open on the database of user %q: end them first; nothing is deleted", user)
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
