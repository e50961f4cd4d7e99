package postgres

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/calmdocs/dblocker/internal/server"
)

// A Folder runs a statement behind another in one message, on a connection of its driver. If the first fails, the second does
// nothing.
type Folder interface {
	// Folds tells whether it may be asked to do so on a connection.
	Folds(ci driver.Conn) bool

	// Exec and Query tell what came of it. An error of the first statement is a FoldFailure, whatever it says.
	Exec(ctx context.Context, ci driver.Conn, f *Fold) (driver.Result, server.Folded, error)
	Query(ctx context.Context, ci driver.Conn, f *Fold) (driver.Rows, server.Folded, error)

	// Leave has it fold nothing on the connection any more.
	Leave(ci driver.Conn)
}

// A Fold is what is to be run.
type Fold struct {
	First string  // asks for locks; its text is one of few
	Args  []int64 // of that

	Query     string
	QueryArgs []driver.NamedValue
}

var folder atomic.Pointer[Folder]

// UseFolder has statements folded by f from now on, on connections of its driver; by nobody if it is nil. It returns who has done so before.
func UseFolder(f Folder) (before Folder) {
	to := &f
	if f == nil {
		to = nil
	}
	if p := folder.Swap(to); p != nil {
		before = *p
	}
	return before
}

func folds(sc *server.Conn) bool {
	return inUse().Folds(sc.Inner())
}

func inUse() Folder {
	if f := folder.Load(); f != nil {
		return *f
	}
	return nobody{}
}

// nobody folds nothing.
type nobody struct{}

func (nobody) Folds(driver.Conn) bool { return false }
func (nobody) Leave(driver.Conn)      {}
func (nobody) Exec(context.Context, driver.Conn, *Fold) (driver.Result, server.Folded, error) {
	return nil, server.NotFolded, nil
}
func (nobody) Query(context.Context, driver.Conn, *Fold) (driver.Rows, server.Folded, error) {
	return nil, server.NotFolded, nil
}

func foldExec(ctx context.Context, sc *server.Conn, locks, left []server.WantedLock, s *server.Call) (res driver.Result, did server.Folded, err error) {
	f := inUse()
	res, did, err = f.Exec(ctx, sc.Inner(), foldOf(locks, left, s))
	did, err = foldFailure(f, sc, did, err)
	return res, did, err
}

func foldQuery(ctx context.Context, sc *server.Conn, locks, left []server.WantedLock, s *server.Call) (rows driver.Rows, did server.Folded, err error) {
	f := inUse()
	rows, did, err = f.Query(ctx, sc.Inner(), foldOf(locks, left, s))
	did, err = foldFailure(f, sc, did, err)
	return rows, did, err
}

// foldFailure finds out what it means that the locks were not given.
func foldFailure(f Folder, sc *server.Conn, did server.Folded, err error) (server.Folded, error) {
	if did != server.FoldFailure || SQLState(err) != invalidText {
		return did, err
	}
	switch text := err.Error(); {
	case strings.Contains(text, levelMark):
		f.Leave(sc.Inner())
		return server.NotFolded, nil
	case strings.Contains(text, goneMark):
		return did, server.ErrLockGone
	case strings.Contains(text, heldMark):
		return server.NotHad, nil
	}
	return did, err
}

// invalidText is the SQLSTATE of a text that is no number.
const invalidText = "22P02"

// levelMark is in the error of a statement that would see what was before it had the lock.
const levelMark = "dblocker: the statement would not see what was done before it had the lock"

func foldOf(locks, left []server.WantedLock, s *server.Call) *Fold {
	f := &Fold{First: foldText(left, locks), Query: s.Query, QueryArgs: s.Args}
	for _, all := range [...][]server.WantedLock{left, locks} {
		for _, l := range all {
			f.Args = append(f.Args, keyOf(l.Key))
		}
	}
	return f
}

var foldTexts sync.Map // of foldText, by the modes of the locks

// foldText gives up locks and then tries others, and fails if it does not get them all; then it has none. Above READ COMMITTED it does nothing but to fail:
// the statement behind it would see the database as it was before. The server evaluates the conditions in their order, and none after one that
// holds.
func foldText(left, wanted []server.WantedLock) string {
	var modes strings.Builder
	for _, locks := range [...][]server.WantedLock{left, wanted} {
		for _, l := range locks {
			fmt.Fprint(&modes, l.Shared, " ")
		}
		modes.WriteString("; ")
	}
	if text, ok := foldTexts.Load(modes.String()); ok {
		return text.(string)
	}
	text := writeFold(left, wanted)
	foldTexts.Store(modes.String(), text)
	return text
}

func writeFold(left, wanted []server.WantedLock) string {
	var q strings.Builder
	fmt.Fprintf(&q, "SELECT CASE WHEN current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN '%s'", levelMark)
	n := 0
	call := func(function string, l server.WantedLock, n int) string {
		if l.Shared {
			function += "_shared"
		}
		return fmt.Sprintf("%s($%d)", function, n)
	}
	for _, l := range left {
		n++
		fmt.Fprintf(&q, " WHEN NOT %s THEN '%s'", call("pg_advisory_unlock", l, n), goneMark)
	}
	for i, l := range wanted {
		n++
		fmt.Fprintf(&q, " WHEN NOT %s THEN '%s'", call("pg_try_advisory_lock", l, n), heldMark)
		for j := range i { // those before are given up again
			fmt.Fprintf(&q, " || CASE WHEN %s THEN '' ELSE '!' END", call("pg_advisory_unlock", wanted[j], n-i+j))
		}
	}
	q.WriteString(" ELSE '0' END::int")
	return q.String()
}
