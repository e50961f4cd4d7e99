package dblocker

import (
	"context"
	"slices"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// LockAll is [Lock] against every user of the database, for migrations and backups. It
// waits for all who came before it, and whoever comes later waits for it. ctx need not
// have a user. What others do without a user takes no lock, and is not kept out.
func LockAll(ctx context.Context, db Handle, opts ...SectionOption) (_ context.Context, unlock func(), err error) {
	return beginSection(ctx, db, sectionRequest{mode: Exclusive, all: true}, opts)
}

// lockAll takes the lock of all users, and those that users have or wait for.
func (s *section) lockAll(w rwlock.Wait) error {
	for o := s.outer; o != nil; o = o.outer {
		if o.pool.users == s.pool.users && o.users == nil {
			return nil
		}
	}
	users := s.pool.users
	users.users.Bar() // before the look at who has a lock
	var busy []string
	for _, i := range users.users.Snapshot() {
		busy = append(busy, i.Key)
	}
	missing, err := s.missing(slices.Compact(busy))
	if err == nil {
		s.more = s.holds(missing)
		reqs := users.requests(rwlock.Exclusive, s.more, true)
		reqs = append(reqs, rwlock.Request{Lock: users.all, Mode: rwlock.Exclusive, Hold: &s.hold.lock})
		s.borrowShares()
		err = s.lockError(rwlock.AcquireAll(s.parent, w, reqs...))
	}
	if err != nil {
		s.returnShares()
		users.users.Unbar()
	}
	return err
}

// A borrowedShare is a share in the lock of all users that an outer section had to take.
type borrowedShare struct {
	hold rwlock.Hold
	from *rwlock.Hold
}

// borrowShares takes over the shares that the outer sections have, for as long as s lasts.
// They cannot end before s, so s must not wait for them; they count as its own rows, which
// no request of an owner waits for.
func (s *section) borrowShares() {
	for o := s.outer; o != nil; o = o.outer {
		for _, h := range append(o.more[:len(o.more):len(o.more)], &o.hold) {
			if o.pool.users == s.pool.users && h.all != nil {
				share := &borrowedShare{rwlock.Hold{Owner: s.hold.lock.Owner, Kind: rwlock.Rows, Tag: h.lock.Tag}, h.all}
				h.all.Move(&share.hold)
				s.shares = append(s.shares, share)
			}
		}
	}
}

func (s *section) returnShares() {
	for _, share := range s.shares {
		share.hold.Move(share.from)
	}
}
