package backend

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/calmdocs/dblocker/internal/bytelock"
	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/sqlite"
)

// Locks of a SQLite file reach beyond the process by bytes of a file beside it, that of the database; those of other engines
// by their own locks: see package scope.

// openReach has the locks reach as far as they are to, which must be the same for all handles that share them. A database that is private
// to the process, in memory or temporary, has no other processes.
func (b *Backend) openReach() error {
	cfg := &b.cfg
	if !cfg.Servers.Engine.Gated {
		return b.lockspace.Scope.Open(cfg.Reaches)
	}
	b.reaches = cfg.Reaches && b.sqlite.IsOfAFile()
	ofAll := b.reaches || cfg.Pattern != "" && cfg.Reaches // what is open for nobody is in memory
	if err := b.lockspace.Scope.Open(ofAll); err != nil {
		return err
	}
	if b.lockspace != b.Database { // whose gate is the same for all lockspaces
		if err := b.Database.Scope.Open(b.reaches); err != nil {
			return err
		}
	}
	if !b.reaches {
		return nil
	}
	path := b.sqlite.Path()
	if there := b.lockspace.Scope.Place(b.Database.ID); cfg.Pattern == "" && there != b.Database.ID {
		return fmt.Errorf("dblocker: lock_scope=database: handles of lockspace %q are open on two databases, %s and %s, and each SQLite file has locks of its own: "+
			"give each database a lockspace of its own, or leave lockspace out", cfg.Lockspace, there, b.Database.ID)
	}
	file, err := b.Database.LockFile(b.sqlite.MakesFile())
	if err != nil {
		return fmt.Errorf("dblocker: lock_scope=database on %s: %w", path, err)
	}
	if cfg.User == "" {
		b.Users.ReachBy(file, cfg.Lockspace)
	} else {
		// A handle on the file alone has another table, so its locks must be others.
		b.unreach = b.Users.ReachUserBy(cfg.User, file, "of a pattern "+cfg.Lockspace)
	}
	b.stopListening = file.Listen(b.awaitedAmong)
	b.Combining.Reaches = true
	return nil
}

// awaitedAmong is told that another process waits for a lock that this one shares, and has had for long.
func (b *Backend) awaitedAmong(k bytelock.Key) {
	if k == bytelock.Gate {
		b.Gate.AskToYield()
	} else {
		b.Users.AskToYield(k)
	}
}

// Reaches tells whether the locks, and the gates, of a SQLite file reach beyond the process.
func (b *Backend) Reaches() bool { return b.reaches }

// openingWait is how long a connection that is closed as the last of this process waits for another process that opens or closes one.
const openingWait = time.Second

// awaitOpening is for a connection that is about to be closed as the last one. Where that would have to wait for long, it is as without: SQLite
// may tell somebody that the file is busy.
func (b *Backend) awaitOpening() opening {
	file, err := b.Database.LockFile(false)
	if err != nil {
		return opening{}
	}
	l, _ := file.AcquireWithin(context.Background(), bytelock.Opening, bytelock.Exclusive, bytelock.Wait{Timeout: openingWait})
	return opening{l}
}

// An opening is of a process that opens its first connection to the file, or closes its last one. Others do not meanwhile.
type opening struct{ lock *bytelock.Lock }

// Release ends it.
func (o opening) Release() {
	if o.lock != nil {
		o.lock.Release()
	}
}

// amongProcesses is connect, where a first connection is opened beside other processes. One may open its first connection too, or close
// its last; and with a journal that lets nobody read beside a writer, one may write, whom we would keep from its commit: so the gate is
// passed as a reader.
func (b *Backend) amongProcesses(ctx context.Context, w rwlock.Wait, connect func(beside bool) error) func(beside bool) error {
	return func(beside bool) error {
		if beside {
			return connect(beside)
		}
		file, err := b.Database.LockFile(false)
		if err != nil {
			return err
		}
		shared, err := b.shareGate(ctx, file, w)
		if err != nil {
			return openingError(err)
		}
		defer opening{shared}.Release()
		l, err := file.AcquireWithin(ctx, bytelock.Opening, bytelock.Exclusive, bytelock.Wait{Timeout: w.Timeout, Stopped: w.Closed})
		if err != nil {
			return openingError(err)
		}
		defer l.Release()
		for until := time.Now().Add(w.Timeout); ; {
			if err = connect(beside); !sqlite.IsBusy(err) || time.Now().After(until) || ctx.Err() != nil {
				return err
			}
			select { // somebody else may have the file open, without dblocker
			case <-time.After(tryOpening):
			case <-ctx.Done():
			}
		}
	}
}

// shareGate takes a share of the gate among processes, for a file that no process has open in WAL mode. Whoever has the gate of this process
// may wait for the connection which is to be opened: that one's share is joined.
func (b *Backend) shareGate(ctx context.Context, file *bytelock.File, w rwlock.Wait) (*bytelock.Lock, error) {
	if sqlite.HasLog(b.Database.ID) {
		return nil, nil
	}
	for until := time.Now().Add(w.Timeout); ; {
		l, err := file.TryAcquire(bytelock.Gate, bytelock.Shared)
		if l == nil && err == nil {
			l = file.Join(bytelock.Gate, bytelock.Shared)
		}
		if l != nil || err != nil {
			return l, err
		}
		wait := bytelock.Wait{Timeout: min(gate.Patience, time.Until(until)), Stopped: w.Closed}
		if l, err = file.AcquireWithin(ctx, bytelock.Gate, bytelock.Shared, wait); !errors.Is(err, bytelock.ErrTimeout) || !time.Now().Before(until) {
			return l, err
		}
	}
}

// tryOpening is how soon it is tried again to open a connection to a file that was busy.
const tryOpening = 5 * time.Millisecond

// openingError says of the wait for others that open and close connections why it has ended.
func openingError(err error) error {
	var w *bytelock.WaitError
	if !errors.As(err, &w) {
		return err
	}
	e := &gate.ConnsError{Waited: w.Waited, Err: w.Err}
	switch w.Err {
	case bytelock.ErrTimeout:
		e.Err = rwlock.ErrTimeout
	case bytelock.ErrStopped:
		e.Err = rwlock.ErrClosed
	}
	return e
}
