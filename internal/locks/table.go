package locks

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// A Table has the users' locks of a database, or of a lockspace.
type Table struct {
	users *rwlock.Table
	all   *rwlock.Lock // the lock of all users; see LockAll

	bytes atomic.Pointer[byteReach] // by which the locks reach to other processes; nil if not by bytes

	reachMu sync.RWMutex
	bytesOf map[string]*userReach // the same of single users, where bytes is nil; guarded by reachMu
}

// NewTable returns the table of a database that nobody has a lock of.
func NewTable() *Table {
	return &Table{users: rwlock.NewTable(), all: rwlock.NewLock(AllUsers, 0)}
}

// Snapshot returns who has or waits for a user's lock, lock by lock, the holders before the waiters,
// the oldest first.
func (t *Table) Snapshot() []rwlock.Info { return t.users.Snapshot() }

// Count returns how many holds of users' locks there are, and how many wait for one.
func (t *Table) Count() (held, waiting int) { return t.users.Count() }

// SnapshotAll returns it of the lock of all users.
func (t *Table) SnapshotAll() []rwlock.Info { return t.all.Snapshot() }

// TryAcquire takes the lock of the user of h if it is free.
func (t *Table) TryAcquire(mode rwlock.Mode, h *Hold) bool {
	return t.users.TryAcquire(h.User, mode, &h.Lock)
}

// TakeFree takes the lock of the user of h, if there is one, for the batch: see rwlock.Batch.
func (t *Table) TakeFree(b *rwlock.Batch, h *Hold) bool {
	return h.User == "" || b.TakeFree(t.users, h.User, &h.Lock)
}

// AllUsers is the name of the lock of all users, which no user is likely to have.
const AllUsers = "\x00all users"

// Acquire takes the lock of a user into h, and with it what gate asks for, if that is
// not nil. While somebody has the lock of all users, or waits for it, the table is
// barred, and a share in that one has to be taken besides.
func (t *Table) Acquire(ctx context.Context, user string, mode rwlock.Mode, h *Hold, gate *rwlock.Request, w rwlock.Wait) error {
	var err error
	if gate == nil {
		err = t.users.Acquire(ctx, user, mode, &h.Lock, w)
	} else {
		err = rwlock.AcquireGated(ctx, w, *gate, rwlock.Request{Table: t.users, Key: user, Mode: mode, Hold: &h.Lock})
	}
	if err != rwlock.ErrBarred {
		return err
	}
	h.User = user
	return t.acquireWithShare(ctx, mode, w, gate, h)
}

// AcquireBeside takes the lock of the user of h together with others.
func (t *Table) AcquireBeside(ctx context.Context, mode rwlock.Mode, h *Hold, others []rwlock.Request, w rwlock.Wait) error {
	user := rwlock.Request{Table: t.users, Key: h.User, Mode: mode, Hold: &h.Lock}
	err := rwlock.AcquireAll(ctx, w, append(others, user)...)
	if err != rwlock.ErrBarred {
		return err
	}
	user.Pass = true
	share := &rwlock.Hold{Owner: h.Lock.Owner, Kind: h.Lock.Kind, Label: h.Lock.Label, Work: h.Lock.Work}
	err = rwlock.AcquireAll(ctx, w, append(others, user, rwlock.Request{Lock: t.all, Mode: rwlock.Shared, Hold: share})...)
	if err == nil {
		h.all = share
	}
	return err
}

// acquireTogether takes the locks of several users, all or none.
func (t *Table) acquireTogether(ctx context.Context, mode rwlock.Mode, w rwlock.Wait, holds ...*Hold) error {
	err := rwlock.AcquireAll(ctx, w, t.requests(mode, holds, false)...)
	if err != rwlock.ErrBarred {
		return err
	}
	return t.acquireWithShare(ctx, mode, w, nil, holds...)
}

// acquireWithShare also takes a share in the lock of all users, which the first of the
// holds keeps, and what gate asks for. Who waits for the share is not in the way of
// others at the gate: the section that has the lock of all users needs it, and so do
// those who work without a user.
func (t *Table) acquireWithShare(ctx context.Context, mode rwlock.Mode, w rwlock.Wait, gate *rwlock.Request, holds ...*Hold) error {
	h := holds[0]
	share := &rwlock.Hold{Owner: h.Lock.Owner, Kind: h.Lock.Kind, Label: h.Lock.Label, Work: h.Lock.Work}
	reqs := append(t.requests(mode, holds, true), rwlock.Request{Lock: t.all, Mode: rwlock.Shared, Hold: share})
	var err error
	if gate == nil {
		err = rwlock.AcquireAll(ctx, w, reqs...)
	} else {
		err = rwlock.AcquireGated(ctx, w, *gate, reqs...)
	}
	if err == nil {
		h.all = share
	}
	return err
}

func (t *Table) requests(mode rwlock.Mode, holds []*Hold, pass bool) []rwlock.Request {
	reqs := make([]rwlock.Request, len(holds), len(holds)+1)
	for i, h := range holds {
		reqs[i] = rwlock.Request{Table: t.users, Key: h.User, Mode: mode, Hold: &h.Lock, Pass: pass}
	}
	return reqs
}
