package dblocker

import (
	"fmt"
	"strings"

	"github.com/calmdocs/dblocker/internal/databases"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
)

// tellSlow logs a wait that has lasted for five seconds, while it lasts: what is in the way, since
// when, where it began if that is known, and how to get it out.
func (c *handle) tellSlow(s rwlock.SlowWait) {
	args := []any{
		"for", c.describeWait(s),
		"in_the_way", describeBlocker(s.Blocker, "", false),
		"waiting", s.Waiting,
		"way_out", wayPast(s.Blocker),
	}
	if c.mayLackClientConns(s) {
		args = append(args, "client_connections", c.outer.open.Load(),
			"and", "if SetMaxOpenConns is set on this handle, remove it and use the option max_open_conns: the calls that wait have all client connections")
	}
	c.logger.Warn("dblocker: a call has been waiting for "+inRound(s.Waited), args...)
}

// describeWait names what is waited for.
func (c *handle) describeWait(s rwlock.SlowWait) string {
	switch {
	case s.Key == locks.AllUsers:
		return "the lock of all users"
	case strings.HasPrefix(s.Key, databases.GateNamePrefix), strings.HasPrefix(s.Key, slotsNamePrefix), s.Key == turnName:
		return s.Key
	}
	return fmt.Sprintf("the %v lock of user %q", s.Mode, s.Key)
}

// mayLackClientConns tells whether the calls that wait, and what is in their way, may have all the
// client connections that the program allows its handle, so that what is in the way cannot go on.
func (c *handle) mayLackClientConns(s rwlock.SlowWait) bool {
	return !c.outer.toldLimit.Load() && s.Blocker.Kind != rwlock.Leaf && int64(s.Waiting)+1 >= c.outer.open.Load()
}
