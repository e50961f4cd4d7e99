package dblocker

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"

	"github.com/calmdocs/dblocker/internal/sqlite"
)

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
		user, err := userFor(ctx, bound)
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

func (c *Connector) noBackup(ctx context.Context) error {
	return unsupportedHere("Backup is for SQLite; on a server use its own tool, pg_dump or mysqldump, for the user's schema or database%s", named(ctx))
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
