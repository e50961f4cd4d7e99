package locks

import (
	"slices"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// lockAll takes the lock of all users, and those that users have or wait for.
func (s *Section) lockAll(w rwlock.Wait) error {
	for o := s.outer; o != nil; o = o.outer {
		if o.table == s.table && o.users == nil {
			return nil
		}
	}
	t := s.table
	t.users.Bar() // before the look at who has a lock
	var busy []string
	for _, i := range t.users.Snapshot() {
		busy = append(busy, i.Key)
	}
	missing, err := s.missing(slices.Compact(busy))
	if err == nil {
		s.more = s.holds(missing)
		reqs := t.requests(rwlock.Exclusive, s.more, true)
		reqs = append(reqs, rwlock.Request{Lock: t.all, Mode: rwlock.Exclusive, Hold: &s.hold.Lock})
		s.borrowShares()
		err = rwlock.AcquireAll(s.parent, w, reqs...)
	}
	if err != nil {
		s.returnShares()
		t.users.Unbar()
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
func (s *Section) borrowShares() {
	for o := s.outer; o != nil; o = o.outer {
		for _, h := range append(o.more[:len(o.more):len(o.more)], &o.hold) {
			if o.table == s.table && h.all != nil {
				share := &borrowedShare{rwlock.Hold{Owner: s.hold.Lock.Owner, Kind: rwlock.Rows, Label: h.Lock.Label}, h.all}
				h.all.Move(&share.hold)
				s.shares = append(s.shares, share)
			}
		}
	}
}

func (s *Section) returnShares() {
	for _, share := range s.shares {
		share.hold.Move(share.from)
	}
}
