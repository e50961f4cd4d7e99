package mysql

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/calmdocs/dblocker/internal/server"
)

// An attempt takes some locks, one after the other, each as soon as it has the one before.
type attempt struct {
	*lockState
	sc    *server.Conn
	until time.Time
	wait  time.Duration // in all; 0 if not at all

	got  [][]int  // of each lock, the numbers of the names that it has; -1 is the door
	left []string // names that the session has, to be given up with the first message
}

// acquire gives up what it has taken if it does not get all.
func acquire(ctx context.Context, sc *server.Conn, wanted, left []server.WantedLock, wait time.Duration, inTx bool) (err error) {
	if inTx {
		if err := checkFresh(ctx, sc); err != nil {
			return err
		}
	}
	a := &attempt{lockState: stateOf(sc), sc: sc, until: time.Now().Add(wait), wait: max(0, wait)}
	if len(left) > 0 {
		if a.left, err = a.giveUp(left); err != nil {
			return err
		}
	}
	names := a.names(wanted)
	err = a.take(ctx, names)
	if err == nil {
		a.note(names)
		return nil
	}
	if err == server.ErrLockGone { // and the connection is closed
		return err
	}
	a.release(ctx, names)
	return lockFailure(err)
}

// take asks for all locks in as few messages as it can: those of which it is known what is asked for, in one.
func (a *attempt) take(ctx context.Context, names []lockNames) error {
	for len(a.got) < len(names) {
		rest := names[len(a.got):]
		for i, l := range rest {
			if l.shared && !l.all || l.all && !l.shared { // the answer says which it is
				rest = rest[:i+1]
				break
			}
		}
		if err := a.ask(ctx, rest); err != nil {
			return err
		}
	}
	return nil
}

// The answers of ask, beside the number of a name.
const (
	refused = -1 // somebody has it, and the time is over
	noShare = -2 // somebody has that share of all users' lock
	closed  = -3 // the door is
	gone    = -4 // a name that was to be given up
)

// ask asks for locks, of which the last may be one of readers.
func (a *attempt) ask(ctx context.Context, names []lockNames) error {
	for tries := 0; ; tries++ {
		var q strings.Builder
		got := a.text(&q, names, tries >= shareTries)
		answer, err := a.answer(ctx, a.unlimited()+q.String()+" END, CONNECTION_ID()")
		switch {
		case err != nil:
			return err
		case answer == gone:
			return server.ErrLockGone
		case answer >= 0:
			if last := names[len(names)-1]; last.shared && !last.all {
				got[len(got)-1] = []int{answer}
			}
			a.got = append(a.got, got...)
			return nil
		}
		// Of what it has got of these it does not know.
		a.release(ctx, names)
		switch {
		case a.isOver() || answer == refused && a.wait == 0:
			return errTime
		case answer == noShare:
			a.share = rand.IntN(shares)
		case answer == closed:
			if err := a.awaitDoor(ctx, names[0]); err != nil {
				return err
			}
		}
	}
}

// shareTries is how many shares are tried before one is waited for.
const shareTries = 8

var errTime = errors.New("dblocker: somebody else has the lock")

func (a *attempt) isOver() bool { return a.wait > 0 && !time.Now().Before(a.until) }

// text writes the CASE that takes the locks, but for its END, and returns what it takes, if it answers with no
// number below zero.
func (a *attempt) text(q *strings.Builder, names []lockNames, waitForShare bool) (got [][]int) {
	q.WriteString("SELECT CASE")
	for _, name := range a.left {
		fmt.Fprintf(q, " WHEN NOT (RELEASE_LOCK('%s') <=> 1) THEN %d", name, gone)
	}
	a.left = nil
	first, wait := a.waits()
	unless := func(prefix string, i int, wait string, answer int) {
		if a.held[name(prefix, i)] == 0 {
			fmt.Fprintf(q, " WHEN NOT (GET_LOCK('%s',%s) <=> 1) THEN %d", name(prefix, i), wait, answer)
		}
	}
	last := refused
	for _, l := range names {
		var numbers []int
		switch {
		case l.all && l.shared:
			numbers = []int{a.share}
			if has := a.shareOf(l); has >= 0 {
				numbers[0] = has
				break
			}
			fmt.Fprintf(q, " WHEN NOT (IS_FREE_LOCK('%s') <=> 1) THEN %d", name(l.prefix, -1), closed)
			if waitForShare {
				unless(l.prefix, a.share, first, refused)
				first = wait
			} else {
				unless(l.prefix, a.share, "0", noShare)
			}
			last = 0
		case l.shared:
			last = refused
			if has := a.readerOf(l); has >= 0 {
				numbers, last = []int{has}, has
				break
			}
			a.used++
			for i := range l.n {
				i = (i + a.used) % l.n
				fmt.Fprintf(q, " WHEN GET_LOCK('%s',0) <=> 1 THEN %d", name(l.prefix, i), i)
			}
			i := a.used % l.n
			fmt.Fprintf(q, " WHEN GET_LOCK('%s',%s) <=> 1 THEN %d", name(l.prefix, i), first, i)
			numbers = []int{i}
		default:
			if l.all {
				numbers = append(numbers, -1)
			}
			for i := range l.n {
				numbers = append(numbers, i)
			}
			for _, i := range numbers {
				unless(l.prefix, i, first, refused)
				first = wait
			}
			last = 0
		}
		got = append(got, numbers)
	}
	fmt.Fprintf(q, " WHEN FALSE THEN 0 ELSE %d", last)
	return got
}

// shareOf returns the share of all users' lock that the session has, readerOf its name of a user's; -1 if none.
func (a *attempt) shareOf(l lockNames) int {
	if a.held[name(l.prefix, a.share)] > 0 {
		return a.share
	}
	return a.readerOf(l)
}

func (a *attempt) readerOf(l lockNames) int {
	if len(a.held) == 0 {
		return -1
	}
	for i := range l.n {
		if a.held[name(l.prefix, i)] > 0 {
			return i
		}
	}
	return -1
}

// waits returns how long the server is to wait for the first name, and for each after that: what remains by
// then. Somebody may have set the clock of the session, so it is always something. MySQL rounds to seconds.
func (a *attempt) waits() (first, then string) {
	if a.wait == 0 {
		return "0", "0"
	}
	left := max(0.001, time.Until(a.until).Seconds())
	if a.patience > 0 {
		left = min(left, a.patience.Seconds())
	}
	if a.mariaDB {
		return fmt.Sprintf("%.3f", left), fmt.Sprintf("GREATEST(0.05, LEAST(%[1]f, %[1]f - TIMESTAMPDIFF(MICROSECOND, NOW(6), SYSDATE(6)) / 1e6))", left)
	}
	return fmt.Sprint(int64(left + 0.999)), fmt.Sprintf("CEILING(GREATEST(0.05, LEAST(%[1]f, %[1]f - TIMESTAMPDIFF(MICROSECOND, NOW(6), SYSDATE(6)) / 1e6)))", left)
}

// unlimited begins a text that no limit for statements of the session is to end.
func (a *attempt) unlimited() string {
	if a.mariaDB {
		return "SET STATEMENT max_statement_time = 0 FOR "
	}
	return ""
}

// answer sends a query that answers with one number and that of the session.
func (a *attempt) answer(ctx context.Context, query string) (answer int, err error) {
	if !a.mariaDB { // 0 would mean the limit of the session
		query = strings.Replace(query, "SELECT", "SELECT /*+ MAX_EXECUTION_TIME(4294967295) */", 1)
	}
	rows, err := a.sc.QueryText(ctx, query)
	switch {
	case err != nil:
		return 0, err
	case len(rows) != 1 || len(rows[0]) != 2:
		return 0, errNoAnswer
	case rows[0][1] != a.session:
		return 0, errOtherSession
	}
	if _, err := fmt.Sscan(rows[0][0], &answer); err != nil {
		return 0, errNoAnswer // NULL, of one who was told to stop
	}
	return answer, nil
}

var (
	errNoAnswer     = errors.New("dblocker: lock_scope=database: the server did not say whether it has given the lock")
	errOtherSession = errors.New("dblocker: lock_scope=database cannot be had through a proxy such as ProxySQL, which runs the statements of a connection in several sessions of the server: connect to the server itself")
)

// awaitDoor waits until nobody has closed the door.
func (a *attempt) awaitDoor(ctx context.Context, l lockNames) error {
	if a.wait == 0 {
		return errTime
	}
	door := name(l.prefix, -1)
	first, _ := a.waits()
	answer, err := a.answer(ctx, fmt.Sprintf("%sSELECT CASE WHEN GET_LOCK('%s',%s) <=> 1 THEN RELEASE_LOCK('%[2]s') ELSE 0 END, CONNECTION_ID()", a.unlimited(), door, first))
	if err == nil && answer != 1 && a.isOver() {
		return errTime
	}
	return err
}

// note counts what the attempt has got.
func (a *attempt) note(names []lockNames) {
	if a.held == nil {
		a.held, a.taken = make(map[string]int), make(map[string][]int)
	}
	for i, l := range names {
		for _, n := range a.got[i] {
			a.held[name(l.prefix, n)]++
		}
		if l.shared {
			a.taken[l.prefix] = append(a.taken[l.prefix], a.got[i][0])
		}
	}
}

// release gives up what of locks has been taken, as far as the session had it not before. The connection is of no more use if
// that cannot be done.
func (a *attempt) release(ctx context.Context, names []lockNames) {
	var all []string
	for _, l := range names {
		if l.all && l.shared {
			all = append(all, name(l.prefix, a.share))
		} else {
			all = append(all, l.every()...)
		}
	}
	all = slices.DeleteFunc(all, func(name string) bool { return a.held[name] > 0 })
	if len(all) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	if _, err := a.sc.QueryText(ctx, releaseText(all)); err != nil {
		a.sc.Fail()
	}
}

// undoTime is how long it may take to give up names.
const undoTime = 5 * time.Second
