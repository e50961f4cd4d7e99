package postgres

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/calmdocs/dblocker/internal/drivers"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// SQLSTATEs with which the wait for a lock ends.
const (
	lockNotAvailable = "55P03"
	deadlockDetected = "40P01"
)

// locks are advisory locks: https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
//
// A message without arguments is one implicit transaction on both drivers, whatever statements are in it. So settings
// that are local to it, and locks of a transaction, are gone when it ends or fails; what remains is what it took last, the
// locks of the session, for which it need not wait by then.
var locks = &server.Locks{
	Check:   checkLocks,
	Acquire: acquire,
	Release: release,
	Begin:   begin,
	Folds:   folds,
	Exec:    foldExec,
	Query:   foldQuery,
	Has:     has,
	Holders: holders,
	Session: sessionOf,
	Where:   where,
	Watch:   watch,
	Drops:   drops,
}

// keyOf is the 64 bits that the server has for a key.
func keyOf(k server.LockKey) int64 { return int64(binary.BigEndian.Uint64(k[:8])) }

// calls returns the calls of a function of advisory locks for each of them.
func calls(function string, locks []server.WantedLock, between string) string {
	var b strings.Builder
	for i, l := range locks {
		if i > 0 {
			b.WriteString(between)
		}
		b.WriteString(function)
		if l.Shared {
			b.WriteString("_shared")
		}
		fmt.Fprintf(&b, "(%d)", keyOf(l.Key))
	}
	return b.String()
}

// bounded bounds the wait for locks by nothing but wait, until the transaction ends.
func bounded(wait time.Duration) string {
	// The server does not know how not to wait, but how to wait for a millisecond.
	return fmt.Sprintf("SELECT set_config('lock_timeout', '%d', true), set_config('statement_timeout', '0', true)", max(1, (wait+time.Millisecond-1).Milliseconds()))
}

// waitThenKeep waits for the locks in the transaction, and then takes them for the session too. The server calls the functions
// in their order, so it does not come to the second ones if it fails in the first.
func waitThenKeep(locks []server.WantedLock, wait time.Duration) string {
	return bounded(wait) + "; SELECT " + calls("pg_advisory_xact_lock", locks, ", ") + ", " + calls("pg_advisory_lock", locks, ", ")
}

func acquire(ctx context.Context, sc *server.Conn, locks, left []server.WantedLock, wait time.Duration, inTx bool) error {
	if inTx {
		return acquireInTx(ctx, sc, locks, wait)
	}
	given, had, err := exchange(ctx, sc, left, locks)
	switch {
	case err != nil:
		return err
	case slices.Contains(given, false):
		return server.ErrLockGone
	case !slices.Contains(had, false):
		return nil
	}
	if wait <= 0 {
		return refuse(ctx, sc, undo(locks, had))
	}
	_, err = sc.ExecContext(ctx, undo(locks, had)+waitThenKeep(locks, wait), nil)
	return lockFailure(err)
}

// refuse is the end of a try in vain, whatever of it is to be undone.
func refuse(ctx context.Context, sc *server.Conn, undo string) error {
	if undo != "" {
		if _, err := sc.ExecContext(ctx, undo, nil); err != nil {
			return err
		}
	}
	return &server.LockFailure{Err: errHeld}
}

var errHeld = errors.New(heldMark)

// undo gives up what a try has had: who waits for one must not have those that others ask for before it.
func undo(locks []server.WantedLock, had []bool) string {
	var those []server.WantedLock
	for i, l := range locks {
		if had[i] {
			those = append(those, l)
		}
	}
	if len(those) == 0 {
		return ""
	}
	return "SELECT " + calls("pg_advisory_unlock", those, ", ") + "; "
}

// acquireInTx takes them in the program's transaction, which goes on if that fails. It undoes the settings, but locks of
// the session remain; those of the transaction are given up.
func acquireInTx(ctx context.Context, sc *server.Conn, locks []server.WantedLock, wait time.Duration) error {
	const begin, undo = "SAVEPOINT dblocker_lock; ", "ROLLBACK TO SAVEPOINT dblocker_lock; RELEASE SAVEPOINT dblocker_lock"
	const fresh = "SELECT CASE WHEN current_setting('transaction_isolation') IN ('read committed', 'read uncommitted') THEN '0' ELSE '" + staleMark + "' END::int; "
	_, err := sc.ExecContext(ctx, begin+fresh+tryOrWaitThenKeep(locks, wait)+"; "+undo, nil)
	switch state := SQLState(err); {
	case err == nil, state == "" || state == "25P02": // the connection is lost, or the transaction had failed before
		return err
	case strings.Contains(err.Error(), staleMark):
		err = errStale
	case strings.Contains(err.Error(), heldMark):
		err = &server.LockFailure{Err: errHeld}
	default:
		err = lockFailure(err)
	}
	if _, undone := sc.ExecContext(context.WithoutCancel(ctx), undo, nil); undone != nil {
		sc.Fail()
	}
	return err
}

// tryOrWaitThenKeep is waitThenKeep; if there is no time to wait, it fails at once with heldMark.
func tryOrWaitThenKeep(locks []server.WantedLock, wait time.Duration) string {
	if wait > 0 {
		return waitThenKeep(locks, wait)
	}
	return "SELECT CASE WHEN " + calls("pg_try_advisory_xact_lock", locks, " AND ") + " THEN '0' ELSE '" + heldMark + "' END::int; SELECT " + calls("pg_advisory_lock", locks, ", ")
}

// heldMark is in the error of a try in vain.
const heldMark = "dblocker: somebody else has the lock"

// staleMark is in the error of a transaction that saw the database before it had the lock.
const staleMark = "dblocker: the snapshot is older than the lock"

var errStale = &server.LockFailure{Refused: true, Err: errors.New("dblocker: this transaction was begun for nobody, at REPEATABLE READ or SERIALIZABLE, so it would see the database as it was before the user's lock was had: " +
	"begin it with the user's context")}

// lockFailure makes one of an error that says that the locks could not be had.
func lockFailure(err error) error {
	switch SQLState(err) {
	case lockNotAvailable:
		return &server.LockFailure{Err: err}
	case deadlockDetected:
		return &server.LockFailure{Deadlock: true, Err: err}
	}
	return err
}

// release fails if the session had not all of them.
func release(ctx context.Context, sc *server.Conn, locks []server.WantedLock) error {
	given, _, err := exchange(ctx, sc, locks, nil)
	if err == nil && slices.Contains(given, false) {
		err = server.ErrLockGone
	}
	return err
}

// begin has the session wait for the locks, and begins the transaction when it has them: what that sees of the database it sees
// under them, at whatever level of isolation. They are the session's: so the next transaction can go on under them.
func begin(ctx context.Context, sc *server.Conn, locks, left []server.WantedLock, wait time.Duration, opts driver.TxOptions) (tx driver.Tx, ends bool, err error) {
	mode, ok := modeOf(opts)
	if !ok {
		return nil, false, driver.ErrSkip // the driver has its own words for it
	}
	text := func(mode string) string {
		if len(locks) == 0 {
			return "BEGIN" + mode
		}
		return giveUpText(left) + "BEGIN; " + waitThenKeep(locks, wait) + "; COMMIT; BEGIN" + mode
	}
	tx, err = beginPgx(ctx, sc.Inner(), text(mode))
	if err == driver.ErrSkip {
		// A connection of lib/pq is that of its transaction, and lib/pq asks for the mode.
		if tx, ok = sc.Inner().(driver.Tx); !ok || Process(sc.Inner()) == "" || !forgetTx(sc.Inner()) {
			return nil, false, driver.ErrSkip
		}
		if !opts.ReadOnly {
			mode += " READ WRITE"
		}
		_, err = sc.ExecContext(ctx, text(mode), nil)
	}
	if err != nil && strings.Contains(err.Error(), goneMark) {
		return nil, false, server.ErrLockGone
	}
	if err = lockFailure(err); err == nil {
		return tx, false, nil
	}
	if isFailure(err) { // else the connection is given up
		if _, undone := sc.ExecContext(context.WithoutCancel(ctx), "ROLLBACK", nil); undone != nil {
			sc.Fail()
		}
	}
	return nil, false, err
}

// forgetTx has a connection of lib/pq forget the last transaction that it has begun itself. At the end of each it calls what
// BeginTx has left to stop the watch over a context, and does not forget that: at the end of one that it has not begun it would stop a watch
// that has ended, for which it panics, or closes the connection. It reports false if that is not found.
func forgetTx(ci driver.Conn) bool {
	finish := drivers.Field(reflect.ValueOf(ci), "txnFinish")
	if finish.Kind() != reflect.Func || !finish.CanAddr() {
		return false
	}
	if !finish.IsNil() {
		reflect.NewAt(finish.Type(), finish.Addr().UnsafePointer()).Elem().SetZero()
	}
	return true
}

// giveUpText gives locks up, and fails if the session had not all of them.
func giveUpText(locks []server.WantedLock) string {
	if len(locks) == 0 {
		return ""
	}
	return "SELECT CASE WHEN " + calls("pg_advisory_unlock", locks, " AND ") + " THEN '0' ELSE '" + goneMark + "' END::int; "
}

// goneMark is in the error of locks that the session had not.
const goneMark = "dblocker: a lock of the server was gone"

func isFailure(err error) bool {
	_, is := err.(*server.LockFailure)
	return is
}

// modeOf returns what both drivers say of a transaction.
func modeOf(opts driver.TxOptions) (mode string, ok bool) {
	switch sql.IsolationLevel(opts.Isolation) {
	case sql.LevelDefault:
	case sql.LevelReadUncommitted, sql.LevelReadCommitted, sql.LevelRepeatableRead, sql.LevelSerializable:
		mode = " ISOLATION LEVEL " + strings.ToUpper(sql.IsolationLevel(opts.Isolation).String())
	default:
		return "", false
	}
	if opts.ReadOnly {
		mode += " READ ONLY"
	}
	return mode, true
}

// A pgxTx is a transaction of pgx as its package stdlib shows it.
type pgxTx struct {
	ctx context.Context
	tx  interface {
		Commit(context.Context) error
		Rollback(context.Context) error
	}
}

func (t pgxTx) Commit() error   { return t.tx.Commit(t.ctx) }
func (t pgxTx) Rollback() error { return t.tx.Rollback(t.ctx) }

// beginPgx begins a transaction of pgx with a text of ours. It fails with ErrSkip for a connection that is not of pgx.
func beginPgx(ctx context.Context, ci driver.Conn, text string) (driver.Tx, error) {
	conn, ok := getter(reflect.ValueOf(ci).MethodByName("Conn"))
	if !ok {
		return nil, driver.ErrSkip
	}
	begin := reflect.ValueOf(conn).MethodByName("BeginTx")
	if !begin.IsValid() || begin.Type().NumIn() != 2 || begin.Type().NumOut() != 2 || begin.Type().In(1).Kind() != reflect.Struct {
		return nil, driver.ErrSkip
	}
	opts := reflect.New(begin.Type().In(1)).Elem()
	query := opts.FieldByName("BeginQuery")
	if query.Kind() != reflect.String {
		return nil, driver.ErrSkip
	}
	query.SetString(text)
	results := begin.Call([]reflect.Value{reflect.ValueOf(ctx), opts})
	if err, _ := results[1].Interface().(error); err != nil {
		return nil, err
	}
	tx := pgxTx{ctx: ctx}
	if tx.tx, ok = results[0].Interface().(interface {
		Commit(context.Context) error
		Rollback(context.Context) error
	}); !ok {
		return nil, errors.New("dblocker: this version of pgx has transactions of another kind")
	}
	return tx, nil
}

// sessionOf is the process that the server has said to serve the connection.
func sessionOf(sc *server.Conn) string {
	if session, told := sc.LockState.(string); told {
		return session
	}
	if pgx, ok := pgxConn(sc.Inner()); ok {
		return fmt.Sprint(pgx.PID())
	}
	return Process(sc.Inner())
}

// has asks for the last of the locks, which is the user's.
func has(ctx context.Context, sc *server.Conn, session string, locks []server.WantedLock) (bool, error) {
	key := uint64(keyOf(locks[len(locks)-1].Key))
	rows, err := sc.QueryText(ctx, fmt.Sprintf("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = %s AND classid = %d AND objid = %d AND objsubid = 1 "+
		"AND database = (SELECT oid FROM pg_database WHERE datname = current_database())", session, key>>32, key&(1<<32-1)))
	return len(rows) > 0, err
}

// drops is about what a program may call by its name.
func drops(query string) bool {
	return sqltext.Contains(query, "ADVISORY_UNLOCK_ALL") || sqltext.Contains(query, "DISCARD")
}

// where names the database, since advisory locks are of one.
func where(ctx context.Context, sc *server.Conn) (string, error) {
	rows, err := sc.QueryText(ctx, "SELECT oid, datname, (SELECT system_identifier FROM pg_control_system()) FROM pg_database WHERE datname = current_database()")
	if err != nil || len(rows) != 1 {
		return "", fmt.Errorf("dblocker: lock_scope=database with lockspace: asking the server which database this is: %w", cmp.Or(err, errors.New("it does not tell")))
	}
	return fmt.Sprintf("%s (%s) of server %s", rows[0][1], rows[0][0], rows[0][2]), nil
}

// watch looks at the network connection of either driver.
func watch(sc *server.Conn) func() (ended, known bool) {
	if pgx, ok := pgxConn(sc.Inner()); ok {
		if conn, ok := pgx.(interface{ Conn() net.Conn }); ok && conn.Conn() != nil {
			return peek(conn.Conn())
		}
		return nil
	}
	return peekIdle(sc.Inner())
}
