package dblocker

import (
	"fmt"
	"strings"
	"time"

	"github.com/calmdocs/dblocker/internal/backend"
	"github.com/calmdocs/dblocker/internal/databases"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/plain"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/userid"
)

// watch logs, until the Store is closed, what has been held and waited for longer than
// debug_after, for which it looks twice in that time.
func (s *Store) watch() {
	after := s.own.c.debugAfter
	tick := time.NewTicker(max(after/2, time.Millisecond))
	defer tick.Stop()
	var told toldAges
	for {
		select {
		case <-s.done:
			return
		case <-tick.C:
			told = s.logLong(after, told)
		}
	}
}

// toldAges are the ages at which locks were last logged. One that lasts is logged again when its
// age has doubled.
type toldAges map[toldLock]time.Duration

type toldLock struct {
	users *locks.Table
	key   string
}

// isDue tells whether to log a lock of that age after it was logged at another; 0 is never.
func isDue(age, logged time.Duration) bool { return logged == 0 || age < logged || age >= 2*logged }

// logLong logs what has lasted for long, and returns the ages at which it has been logged.
func (s *Store) logLong(after time.Duration, told toldAges) toldAges {
	now := make(toldAges)
	seen := make(map[*locks.Table]bool)
	for _, on := range s.databases() {
		if users := on.c.lockTable(); users != nil && !seen[users] {
			seen[users] = true
			on.c.logLong(users, after, told, now)
		}
	}
	return now
}

// databases returns those that the Store has open.
func (s *Store) databases() []*storeDB {
	if s.shards == nil {
		return []*storeDB{s.own}
	}
	return append(s.shards.Databases(), s.own)
}

// logLong logs the locks that have been held for long: one line each.
func (c *Connector) logLong(users *locks.Table, after time.Duration, told, now toldAges) {
	infos := users.Snapshot()
	for len(infos) > 0 {
		first, n := infos[0], 1
		for n < len(infos) && infos[n].Key == first.Key {
			n++
		}
		if l := (toldLock{users, first.Key}); first.For >= after {
			now[l] = told[l]
			if isDue(first.For, told[l]) {
				now[l] = first.For
				c.logLock(infos[:n])
			}
		}
		infos = infos[n:]
	}
}

// logLock logs one lock: its oldest holder, and the oldest of those who wait.
func (c *Connector) logLock(infos []rwlock.Info) {
	first := infos[0]
	args := []any{"user", userid.Short(first.Key), "mode", first.Mode.String(), "kind", first.Kind.String(), "tag", plain.Short(first.Tag, longText), "age", first.For.Round(time.Millisecond)}
	for i, info := range infos {
		if info.Waiting {
			args = append(args, "waiting", len(infos)-i, "longest_wait", info.For.Round(time.Millisecond), "waiter", info.Kind.String(), "waiter_tag", plain.Short(info.Tag, longText))
			break
		}
	}
	c.logger.Warn("dblocker: a user's lock has been held long", args...)
}

// tellSlow logs a wait that has lasted for five seconds, while it lasts: what is in the way, since
// when, where it began if that is known, and how to get it out.
func (c *handle) tellSlow(s rwlock.SlowWait) {
	c.tellLong(s)
	args := []any{
		"for", c.describeWait(s),
		"in_the_way", describeBlocker(s.Blocker, "", false),
		"waiting", s.Waiting,
		"way_out", wayPast(s.Blocker),
	}
	if c.mayLackClientConns(s) {
		args = append(args, "client_connections", c.outer.Open(),
			"and", "if SetMaxOpenConns is set on this handle, remove it and use the option max_open_conns: the calls that wait have all client connections")
	}
	c.logger.Warn("dblocker: a call has been waiting for "+inRound(s.Waited), args...)
}

// describeWait names what is waited for.
func (c *handle) describeWait(s rwlock.SlowWait) string {
	switch {
	case s.Key == locks.AllUsers:
		return "the lock of all users"
	case strings.HasPrefix(s.Key, databases.GateNamePrefix), strings.HasPrefix(s.Key, backend.SlotsNamePrefix), s.Key == turnName, s.Key == placesName:
		return s.Key
	}
	return fmt.Sprintf("the %v lock of user %s", s.Mode, userid.Brief(s.Key))
}

// mayLackClientConns tells whether the calls that wait, and what is in their way, may have all the
// client connections that the program allows its handle, so that what is in the way cannot go on.
func (c *handle) mayLackClientConns(s rwlock.SlowWait) bool {
	return !c.outer.HasToldLimit() && s.Blocker.Kind != rwlock.Leaf && int64(s.Waiting)+1 >= c.outer.Open()
}
