package dblocker

import (
	"context"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// A lockTable has the users' locks of a database, or of a lockspace.
type lockTable struct {
	users *rwlock.Table
	all   *rwlock.Lock // the lock of all users; see LockAll
}

func newLockTable() *lockTable {
	return &lockTable{rwlock.NewTable(), rwlock.NewLock(allUsers, 0)}
}

// Snapshot returns who has or waits for a user't lock, lock by lock, the holders before the waiters,
// the oldest first.
func (t *lockTable) Snapshot() []rwlock.Info { return t.users.Snapshot() }

// SnapshotAll returns it of the lock of all users.
func (t *lockTable) SnapshotAll() []rwlock.Info { return t.all.Snapshot() }

// tryAcquire takes the lock of the user of h if it is free.
func (t *lockTable) tryAcquire(mode rwlock.Mode, h *userHold) bool {
	return t.users.TryAcquire(h.user, mode, &h.lock)
}

// allUsers is the name of the lock of all users, which no user is likely to have.
const allUsers = "\x00all users"

// acquire takes the lock of a user into h, and with it what gate asks for, if that is
// not nil. While somebody has the lock of all users, or waits for it, the table is
// barred, and a share in that one has to be taken besides.
func (t *lockTable) acquire(ctx context.Context, user string, mode rwlock.Mode, h *userHold, gate *rwlock.Request, w rwlock.Wait) error {
	var err error
	if gate == nil {
		err = t.users.Acquire(ctx, user, mode, &h.lock, w)
	} else {
		err = rwlock.AcquireGated(ctx, w, *gate, rwlock.Request{Table: t.users, Key: user, Mode: mode, Hold: &h.lock})
	}
	if err != rwlock.ErrBarred {
		return err
	}
	h.user = user
	return t.acquireWithShare(ctx, mode, w, gate, h)
}

// acquireBeside takes the lock of the user of h together with others.
func (t *lockTable) acquireBeside(ctx context.Context, mode rwlock.Mode, h *userHold, others []rwlock.Request, w rwlock.Wait) error {
	user := rwlock.Request{Table: t.users, Key: h.user, Mode: mode, Hold: &h.lock}
	err := rwlock.AcquireAll(ctx, w, append(others, user)...)
	if err != rwlock.ErrBarred {
		return err
	}
	user.Pass = true
	share := &rwlock.Hold{Owner: h.lock.Owner, Kind: h.lock.Kind, Tag: h.lock.Tag, Work: h.lock.Work}
	err = rwlock.AcquireAll(ctx, w, append(others, user, rwlock.Request{Lock: t.all, Mode: rwlock.Shared, Hold: share})...)
	if err == nil {
		h.all = share
	}
	return err
}

// acquireTogether takes the locks of several users, all or none.
func (t *lockTable) acquireTogether(ctx context.Context, mode rwlock.Mode, w rwlock.Wait, holds ...*userHold) error {
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
func (t *lockTable) acquireWithShare(ctx context.Context, mode rwlock.Mode, w rwlock.Wait, gate *rwlock.Request, holds ...*userHold) error {
	h := holds[0]
	share := &rwlock.Hold{Owner: h.lock.Owner, Kind: h.lock.Kind, Tag: h.lock.Tag, Work: h.lock.Work}
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

func (t *lockTable) requests(mode rwlock.Mode, holds []*userHold, pass bool) []rwlock.Request {
	reqs := make([]rwlock.Request, len(holds), len(holds)+1)
	for i, h := range holds {
		reqs[i] = rwlock.Request{Table: t.users, Key: h.user, Mode: mode, Hold: &h.lock, Pass: pass}
	}
	return reqs
}
