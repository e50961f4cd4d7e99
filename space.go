package dblocker

import (
	"context"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// allUsers is the name of the lock of all users, which no user is likely to have.
const allUsers = "\x00all users"

// acquire takes the lock of a user into h, and with it what gate asks for, if that is
// not nil. While somebody has the lock of all users, or waits for it, the table is
// barred, and a share in that one has to be taken besides.
func (s *space) acquire(ctx context.Context, user string, mode rwlock.Mode, h *userHold, gate *rwlock.Request, w rwlock.Wait) error {
	var err error
	if gate == nil {
		err = s.users.Acquire(ctx, user, mode, &h.lock, w)
	} else {
		err = rwlock.AcquireGated(ctx, w, *gate, rwlock.Request{Table: s.users, Key: user, Mode: mode, Hold: &h.lock})
	}
	if err != rwlock.ErrBarred {
		return err
	}
	h.user = user
	return s.acquireWithShare(ctx, mode, w, gate, h)
}

// acquireTogether takes the locks of several users, all or none.
func (s *space) acquireTogether(ctx context.Context, mode rwlock.Mode, w rwlock.Wait, holds ...*userHold) error {
	err := rwlock.AcquireAll(ctx, w, s.requests(mode, holds, false)...)
	if err != rwlock.ErrBarred {
		return err
	}
	return s.acquireWithShare(ctx, mode, w, nil, holds...)
}

// acquireWithShare also takes a share in the lock of all users, which the first of the
// holds keeps, and what gate asks for. Who waits for the share is not in the way of
// others at the gate: the section that has the lock of all users needs it, and so do
// those who work without a user.
func (s *space) acquireWithShare(ctx context.Context, mode rwlock.Mode, w rwlock.Wait, gate *rwlock.Request, holds ...*userHold) error {
	h := holds[0]
	share := &rwlock.Hold{Owner: h.lock.Owner, Kind: h.lock.Kind, Tag: h.lock.Tag, Work: h.lock.Work}
	reqs := append(s.requests(mode, holds, true), rwlock.Request{Lock: s.all, Mode: rwlock.Shared, Hold: share})
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

func (s *space) requests(mode rwlock.Mode, holds []*userHold, pass bool) []rwlock.Request {
	reqs := make([]rwlock.Request, len(holds), len(holds)+1)
	for i, h := range holds {
		reqs[i] = rwlock.Request{Table: s.users, Key: h.user, Mode: mode, Hold: &h.lock, Pass: pass}
	}
	return reqs
}
