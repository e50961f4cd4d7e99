package databases

import (
	"errors"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"

	"github.com/calmdocs/dblocker/internal/bytelock"
)

// A lockFile is the file beside a SQLite database by whose bytes processes exclude each other. It is opened when it is needed first, and
// closed with the database.
type lockFile struct {
	path string // of the database; "" if that has no file

	file atomic.Pointer[bytelock.File] // nil until it is open; set with mu
	mu   sync.Mutex                    // guards the opening
}

// LockFile returns the lock file of the database. Where there is no database yet, it makes an empty one if make says so.
func (d *Database) LockFile(make bool) (*bytelock.File, error) { return d.lockFile.open(make) }

func (l *lockFile) open(make bool) (*bytelock.File, error) {
	if f := l.file.Load(); f != nil {
		return f, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.file.Load(); f != nil {
		return f, nil
	}
	if make {
		if err := bytelock.Create(l.path); err != nil {
			return nil, err
		}
	}
	f, err := bytelock.Open(l.path)
	if err == nil {
		l.file.Store(f)
	}
	return f, err
}

// whenThere is open, for a file that some connection has attached. It returns nil if there is no database yet.
func (l *lockFile) whenThere() (*bytelock.File, error) {
	if f := l.file.Load(); f != nil {
		return f, nil
	}
	if _, err := os.Stat(l.path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return l.open(false)
}

func (l *lockFile) close() {
	if f := l.file.Load(); f != nil {
		f.Close()
	}
}
