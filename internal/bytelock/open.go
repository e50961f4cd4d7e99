package bytelock

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// suffix is what the name of the lock file has more than that of the database.
const suffix = "-locks"

// words are in the lock file, for a person who finds it.
const words = "Processes that use the database beside this file lock bytes of it (dblocker).\nDo not delete it while one of them runs.\n"

// Check returns ErrUnsupported where the system has no locks for this.
func Check() error {
	if !supported {
		return ErrUnsupported
	}
	return nil
}

// Create makes an empty file for a database that is not there yet, as SQLite would. Else processes that open it for the first time would have no
// file to lock beside while they do.
func Create(database string) error {
	const perm = 0o644 // as SQLite's, before the umask
	err := createEmpty(database, perm)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "create", Path: database, Err: err}
	}
	return nil
}

// Open opens the lock file of a database, whose file must be there. It makes the lock file if there is none, with the rights
// of the database file. It proves that locks exclude each other there.
//
// Symbolic links to the database are followed. Hard links of it must all be in one directory, where their lock
// files are hard links too.
func Open(database string) (*File, error) {
	if err := Check(); err != nil {
		return nil, err
	}
	path, db, err := lockFileOf(database)
	if err != nil {
		return nil, err
	}
	f := &File{path: path}
	f.refs.Store(1)
	if err := f.open(db); err != nil {
		return nil, err
	}
	if err := prove(path, f.keys.tries, f.all.tries); err != nil {
		f.unref()
		return nil, err
	}
	return f, nil
}

// open opens the descriptors, which are of one file.
func (f *File) open(db os.FileInfo) error {
	var opened []descriptor
	for _, d := range []*descriptor{&f.keys.tries, &f.keys.waits, &f.all.tries, &f.all.waits} {
		next, info, err := openLockFile(f.path, db)
		if err == nil {
			opened = append(opened, next)
			*d = next
		}
		if f.info == nil {
			f.info = info
		}
		if err == nil && !os.SameFile(info, f.info) {
			err = &os.PathError{Op: "lock", Path: f.path, Err: ErrReplaced}
		}
		if err != nil {
			for _, d := range opened {
				d.close()
			}
			return err
		}
	}
	return nil
}

// lockFileOf returns where the lock file of a database is, and what the database file is. The database file itself
// is never opened: to close a descriptor of it would drop the locks that SQLite has on it in this process.
func lockFileOf(database string) (path string, db os.FileInfo, err error) {
	abs, err := filepath.Abs(database)
	if err != nil {
		return "", nil, err
	}
	if abs, err = filepath.EvalSymlinks(abs); err == nil {
		db, err = os.Stat(abs)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil, fmt.Errorf("locks among processes: there is no database file yet, whose rights the lock file gets: open the database first: %w", err)
	case err != nil:
		return "", nil, err
	case !db.Mode().IsRegular():
		return "", nil, fmt.Errorf("locks among processes: the database %s is no ordinary file", abs)
	case linksOf(db) > 1:
		err = linkLockFiles(abs, db)
	}
	return abs + suffix, db, err
}

// linkLockFiles has the lock file be one for all names of a database file that has several: it links the lock file of
// another name, or a new one, to that of this name.
func linkLockFiles(database string, db os.FileInfo) error {
	names, err := namesOf(database, db)
	if err != nil {
		return err
	}
	first, there, err := firstLockFile(names)
	if err != nil {
		return err
	}
	if there == nil {
		first = names[0] + suffix // others choose the same
		d, _, err := openLockFile(first, db)
		if err != nil {
			return err
		}
		d.close()
	}
	err = os.Link(first, database+suffix)
	if errors.Is(err, fs.ErrExist) {
		_, _, err = firstLockFile(names) // is it still one?
	}
	return err
}

// namesOf returns the names of a database file, in order.
func namesOf(database string, db os.FileInfo) (names []string, err error) {
	dir := filepath.Dir(database)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && os.SameFile(info, db) {
			names = append(names, filepath.Join(dir, e.Name()))
		}
	}
	if n := linksOf(db); len(names) < n {
		return nil, fmt.Errorf("locks among processes: the database file %s has %d names (hard links), of which %d are in its directory: a process that uses another "+
			"name would lock another file; delete the other names, or use symbolic links", database, n, len(names))
	}
	return names, nil
}

// firstLockFile returns the first of the lock files that are there, nil if there is none. All must be one.
func firstLockFile(names []string) (path string, there os.FileInfo, err error) {
	for _, name := range names {
		info, err := os.Lstat(name + suffix)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return "", nil, err
		case there == nil:
			path, there = name+suffix, info
		case !os.SameFile(info, there):
			return "", nil, fmt.Errorf("locks among processes: %s and %s are different lock files of one database: end all processes that use it and delete both", path, name+suffix)
		}
	}
	return path, there, nil
}

// openLockFile opens the lock file, which it makes if it is not there.
func openLockFile(path string, db os.FileInfo) (descriptor, os.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDWR|noFollow, 0)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = create(path, db)
	}
	if errors.Is(err, fs.ErrExist) { // somebody else was faster
		f, err = os.OpenFile(path, os.O_RDWR|noFollow, 0)
	}
	if err != nil {
		return descriptor{}, nil, fmt.Errorf("locks among processes need a lock file beside the database, to read and write: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("locks among processes: %s is no ordinary file: delete or rename it", path)
	}
	if err != nil {
		f.Close()
		return descriptor{}, nil, err
	}
	return describe(f), info, nil
}

// create makes the lock file, with the rights of the database file, and for root its owner, as SQLite does with its journals.
func create(path string, db os.FileInfo) (*os.File, error) {
	perm := db.Mode().Perm() &^ 0o111
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|noFollow, perm)
	if err != nil {
		return nil, err
	}
	f.Chmod(perm) // whatever the umask; where it cannot be changed, it stays as it is
	giveTo(f, db)
	f.WriteString(words)
	return f, nil
}
