package mysql

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// The locks are the server's named ones, which need no table and no rights, belong to a session, and stay through COMMIT,
// ROLLBACK and what commits by itself. To take them makes no snapshot, so before START TRANSACTION is soon enough.
// https://mariadb.com/docs/server/reference/sql-functions/secondary-functions/miscellaneous-functions/get_lock
// https://dev.mysql.com/doc/refman/8.4/en/locking-functions.html
//
// They have no shared mode. So a user's lock is some names, of which a reader takes one, and a writer all, in their order. Names
// are first come, first served, so neither starves.
//
// The lock of all users, of which everybody has a share, is many names: no two who share it may be in each other's way. A session has one of them, by
// its number, and another if somebody has that. Who wants the whole lock closes the door, for newcomers not to take what it is going to wait for, and takes all.
//
// A session never asks for a name that it has, but counts for itself. So the server's count is one, and to give up names
// that may be there is always right.
var locks = &server.Locks{
	Check:   checkLocks,
	Acquire: acquire,
	Release: release,
	Has:     has,
	Holders: holders,
	Session: func(sc *server.Conn) string { return stateOf(sc).session },
	Where:   where,
	Watch:   watch,
	Drops:   func(query string) bool { return sqltext.Contains(query, "RELEASE_ALL_LOCKS") },
}

// shares is how many may have a share in the lock of all users at the same time, in all processes.
const shares = 512

// DefaultReaders is how many may share a user's lock at the same time, in all processes.
const DefaultReaders = 4

// A lockState is what is known of the locks of a session. Only who has the connection uses it.
type lockState struct {
	session  string        // its number
	database string        // that the locks are of
	readers  int           // may share a user's lock
	share    int           // of all users' lock, that it asks for first
	mariaDB  bool          // which knows fractions of a second
	patience time.Duration // that the driver has with an answer: half its readTimeout; 0 for all the time
	used     int           // how often a name was asked for, to begin elsewhere each time

	held  map[string]int   // how often it has a name; a name that it has not is not there
	taken map[string][]int // what the calls have taken of a shared lock, by its first name
}

func stateOf(sc *server.Conn) *lockState {
	if s, ok := sc.LockState.(*lockState); ok {
		return s
	}
	return new(lockState) // which no lock is taken by
}

// prefix begins the names of a lock. MySQL compares them without regard to case, MariaDB with, and at most 64 characters
// are allowed.
func prefix(database string, k server.LockKey) string {
	hash := sha256.Sum256(append(k[:], database...))
	return fmt.Sprintf("%x", hash[:24])
}

// LockNames returns the names of a lock of a database that readers may share, or of that of all users.
func LockNames(database string, k server.LockKey, readers int, all bool) []string {
	l := lockNames{prefix: prefix(database, k), n: readers, all: all}
	if all {
		l.n = shares
	}
	return l.every()
}

// name is one of a lock; -1 is the door's.
func name(prefix string, i int) string {
	if i < 0 {
		return prefix + "door"
	}
	return fmt.Sprintf("%s%03x", prefix, i)
}

// A lockNames is a lock, as its names.
type lockNames struct {
	prefix string
	n      int
	all    bool // of all users
	shared bool
}

// names returns the locks that a call wants. The first is that of all users: see scope.Scope.
func (s *lockState) names(wanted []server.WantedLock) []lockNames {
	names := make([]lockNames, len(wanted))
	for i, l := range wanted {
		names[i] = lockNames{prefix: prefix(s.database, l.Key), n: s.readers, shared: l.Shared}
	}
	names[0].all, names[0].n = true, shares
	return names
}

// every returns all names of a lock.
func (l lockNames) every() []string {
	all := make([]string, l.n, l.n+1)
	for i := range all {
		all[i] = name(l.prefix, i)
	}
	if l.all {
		all = append(all, name(l.prefix, -1))
	}
	return all
}

func releaseText(names []string) string {
	return "SELECT RELEASE_LOCK('" + strings.Join(names, "'),RELEASE_LOCK('") + "')"
}

// release fails if the session had not all of them.
func release(ctx context.Context, sc *server.Conn, wanted []server.WantedLock) error {
	all, err := stateOf(sc).giveUp(wanted)
	if err != nil || len(all) == 0 {
		return err
	}
	rows, err := sc.QueryText(ctx, releaseText(all))
	if err == nil && (len(rows) != 1 || slices.ContainsFunc(rows[0], func(answer string) bool { return answer != "1" })) {
		err = server.ErrLockGone
	}
	return err
}

// giveUp counts locks as given up, and returns the names that the server is to be told to give up.
func (s *lockState) giveUp(wanted []server.WantedLock) (all []string, err error) {
	give := func(name string) {
		if s.held[name]--; s.held[name] <= 0 {
			delete(s.held, name)
			all = append(all, name)
		}
	}
	for _, l := range s.names(wanted) {
		if !l.shared {
			for _, name := range l.every() {
				give(name)
			}
			continue
		}
		taken := s.taken[l.prefix]
		if len(taken) == 0 {
			return nil, server.ErrLockGone
		}
		give(name(l.prefix, taken[len(taken)-1]))
		if s.taken[l.prefix] = taken[:len(taken)-1]; len(taken) == 1 {
			delete(s.taken, l.prefix)
		}
	}
	return all, nil
}

// lockFailure makes one of an error that says that the locks could not be had.
func lockFailure(err error) error {
	const (
		lockWaitTimeout  = 1205
		lockDeadlock     = 1213
		userLockDeadlock = 3058
	)
	switch n := ErrorNumber(err); {
	case err == errTime, n == lockWaitTimeout:
		return &server.LockFailure{Err: err}
	case n == lockDeadlock, n == userLockDeadlock:
		return &server.LockFailure{Deadlock: true, Err: err}
	}
	return err
}

// has asks for the last of the locks, which is the user's: a writer has all its names, a reader has one.
func has(ctx context.Context, sc *server.Conn, session string, wanted []server.WantedLock) (bool, error) {
	all := stateOf(sc).names(wanted)
	last := all[len(all)-1]
	if !last.shared {
		last.n = 1
	}
	var q strings.Builder
	q.WriteString("SELECT FALSE")
	for i := range last.n {
		fmt.Fprintf(&q, " OR IS_USED_LOCK('%s') <=> %s", name(last.prefix, i), session)
	}
	rows, err := sc.QueryText(ctx, q.String())
	return len(rows) == 1 && rows[0][0] == "1", err
}
