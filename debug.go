package dblocker

import (
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// watch logs, until the Store is closed, what has been held and waited for longer than
// debug_after, twice in that time.
func (s *Store) watch() {
	after := s.own.c.debugAfter
	tick := time.NewTicker(max(after/2, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-s.done:
			return
		case <-tick.C:
			s.logLong(after)
		}
	}
}

func (s *Store) logLong(after time.Duration) {
	seen := make(map[*space]bool)
	for _, on := range s.databases() {
		if users := on.c.space(); users != nil && !seen[users] {
			seen[users] = true
			on.c.logLong(users.users.Snapshot(), after)
		}
	}
}

// databases returns those that the Store has open.
func (s *Store) databases() []*database {
	if s.shards == nil {
		return []*database{s.own}
	}
	return append(s.shards.databases(), s.own)
}

// logLong logs those of a snapshot that have lasted. A lock's holders come first there.
func (c *Connector) logLong(infos []rwlock.Info, after time.Duration) {
	var first rwlock.Info // of the same lock
	for _, i := range infos {
		if i.Key != first.Key {
			first = i
		}
		if i.For < after {
			continue
		}
		args := []any{"user", i.Key, "mode", i.Mode.String(), "kind", i.Kind.String(), "tag", i.Tag, "age", i.For.Round(time.Millisecond)}
		if i.Waiting {
			c.logger.Warn("dblocker: a request has been waiting long for a user's lock", append(args, "in_the_way", first.String())...)
		} else {
			c.logger.Warn("dblocker: a user's lock has been held long", args...)
		}
	}
}
