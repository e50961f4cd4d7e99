package walsync

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
)

// A walFile is the file of a WAL, of which it keeps a descriptor. The kernel tells of an error in writing to a file
// each descriptor that was open then: so it is opened before the first commit that a sync vouches for, and kept.
//
// SQLite deletes the WAL with the last connection to the database, and the next makes another: then that is opened in
// its place. As long as the descriptor is open the new one cannot have its inode.
//
// SQLite locks nothing in the WAL. The database file itself is never opened here: to close any descriptor of it would drop the
// locks that SQLite has on it in this process.
type walFile struct {
	placed atomic.Bool // path is set

	mu   sync.Mutex // guards what follows. No file is synced under it.
	path string     // "" if there is none
	open *os.File   // what was there last; nil if there was none
	info os.FileInfo

	dirSynced bool // since it was opened
	closed    bool // for good
}

// Place says which database file the log is of, by its resolved path. It does nothing the second time.
func (l *Log) Place(path string) {
	w := &l.file
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.path == "" && path != "" {
		w.path = path + "-wal"
		w.placed.Store(true)
	}
}

// HasPlace tells whether it is known where the log is.
func (l *Log) HasPlace() bool { return l.file.placed.Load() }

// Follow opens the WAL that is there now, unless it is open already. It is called with a connection that has it open, so that
// it stays there, before anything is committed on that. It reports whether there is one.
func (l *Log) Follow() (there bool, err error) {
	f, err := l.file.follow()
	return f != nil, err
}

// Close closes the descriptor for good. Nobody waits any more, though a sync may be running that somebody has waited for.
func (l *Log) Close() {
	w := &l.file
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.use(nil, nil)
}

// follow returns the WAL that is at its path; nil if there is none.
func (w *walFile) follow() (*os.File, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.path == "" || w.closed {
		return nil, nil
	}
	there, err := os.Stat(w.path)
	if err == nil && w.open != nil && os.SameFile(there, w.info) {
		return w.open, nil
	}
	var f *os.File
	if err == nil {
		f, err = openShared(w.path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		w.use(nil, nil)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	w.use(f, info)
	return f, nil
}

// use puts f, which may be nil, in the place of the file that is open. A sync that runs in that goes on.
func (w *walFile) use(f *os.File, info os.FileInfo) {
	if w.open != nil {
		w.open.Close()
	}
	w.open, w.info, w.dirSynced = f, info, false
}

// sync syncs the WAL that is there. If there is none, its last connection was closed, or it is not in WAL mode any more: what was in it
// is in the database file, which SQLite has synced. Its error is an *Error if what is in the file may be lost.
func (w *walFile) sync() error {
	for {
		f, err := w.follow()
		if f == nil {
			return err
		}
		if err = w.syncDir(f); err == nil {
			err = SyncFile(f)
		}
		if errors.Is(err, os.ErrClosed) { // another has come in its place meanwhile
			continue
		}
		if err != nil {
			return &Error{err}
		}
		return nil
	}
}

// syncDir syncs the directory once for each WAL, for the name of that to be found.
func (w *walFile) syncDir(f *os.File) error {
	w.mu.Lock()
	synced, dir := w.dirSynced, filepath.Dir(w.path)
	w.mu.Unlock()
	if synced {
		return nil
	}
	err := SyncDir(dir)
	if err != nil && !isUnable(err) {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dirSynced = w.open == f
	return nil
}

// isUnable tells of an error that a directory cannot be synced here, which SQLite does not mind either.
func isUnable(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EINVAL) || errors.Is(err, fs.ErrNotExist)
}
