package postgres

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	"github.com/calmdocs/dblocker/internal/drivers"
	"github.com/calmdocs/dblocker/internal/server"
)

// pooledLocks are advisory locks of transactions, for a pooler that runs each transaction of a client in another session of the server. They have the
// keys of the locks of sessions, and are in each other's way.
//
// Acquire begins a transaction, which has the locks, and Release commits it. Nobody knows in which session it is. So each transaction also has a mark, a lock
// that nobody asks for: by that others see whether it is still there, and that it is of this process.
var pooledLocks = &server.Locks{
	PerTx:   true,
	Check:   checkPooled,
	Acquire: acquirePooled,
	Release: commitPooled,
	Begin:   beginPooled,
	Has:     hasMark,
	Holders: holdersPooled,
	Session: nextMark,
	Where:   where,
}

// A pooledState is what is known of a connection through a pooler. Whoever has the connection guards it.
type pooledState struct {
	mark    uint32 // of the next transaction, or of the open one
	strict  bool   // transactions begin above READ COMMITTED, if nothing else is said
	lenient bool   // they do not
}

func pooledOf(sc *server.Conn) *pooledState {
	s, ok := sc.LockState.(*pooledState)
	if !ok {
		s = new(pooledState)
		sc.LockState = s
	}
	return s
}

// The marks of this process: locks of two numbers, which are in nobody's way who has one of one number.
var (
	markSpace = rand.Uint32()
	marks     atomic.Uint32
)

func nextMark(sc *server.Conn) string {
	s := pooledOf(sc)
	s.mark = marks.Add(1)
	return fmt.Sprintf("%s%d", markName, s.mark)
}

// markName begins the name of a session of which no more than a mark is known.
const markName = "mark "

func markCall(mark uint32) string {
	return fmt.Sprintf("pg_try_advisory_xact_lock_shared(%d, %d)", int32(markSpace), int32(mark))
}

const ofMarks = "locktype = 'advisory' AND objsubid = 2 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"

// hasMark tells whether a transaction is still there.
func hasMark(ctx context.Context, sc *server.Conn, mark string, _ []server.WantedLock) (bool, error) {
	rows, err := sc.QueryText(ctx, fmt.Sprintf("SELECT 1 FROM pg_locks WHERE granted AND classid = %d AND objid = %s AND "+ofMarks, markSpace, strings.TrimPrefix(mark, markName)))
	return len(rows) > 0, err
}

// holdersPooled tells what is of this process by its mark.
func holdersPooled(ctx context.Context, sc *server.Conn, locks []server.WantedLock) ([]server.LockHolder, error) {
	return holdersBy(ctx, sc, locks, fmt.Sprintf("(SELECT '%s' || min(objid::bigint) FROM pg_locks m WHERE m.virtualtransaction = l.virtualtransaction AND classid = %d AND %s)", markName, markSpace, ofMarks))
}

// checkPooled changes no setting: the session is others' too.
func checkPooled(ctx context.Context, sc *server.Conn) error {
	pgx, isPgx := pgxConn(sc.Inner())
	switch {
	case !isPgx && Process(sc.Inner()) == "":
		return errors.New("dblocker: lock_scope=database with pooler=transaction needs lib/pq or pgx, by its package stdlib, as the driver")
	case isPgx && pgx != nil && isNamed(pgxMode(sc.Inner())):
		return errNamed
	}
	rows, err := sc.QueryText(ctx, "SELECT pg_is_in_recovery()")
	switch {
	case err != nil:
		return fmt.Errorf("dblocker: lock_scope=database: asking the server about a new connection: %w", err)
	case len(rows) != 1 || len(rows[0]) != 1:
		return errors.New("dblocker: lock_scope=database: the server does not tell about a new connection what PostgreSQL does")
	case !isFalse(rows[0][0]):
		return errReplica
	}
	return nil
}

var errNamed = errors.New("dblocker: pooler=transaction: this connection of pgx prepares statements in the session of the server, which the next transaction has not any more: " +
	"say default_query_exec_mode=exec in the connection string, or DefaultQueryExecMode in the configuration")

// pgxMode is how a connection of pgx runs statements.
func pgxMode(ci driver.Conn) string {
	conn, ok := getter(reflect.ValueOf(ci).MethodByName("Conn"))
	if !ok {
		return ""
	}
	config, ok := getter(reflect.ValueOf(conn).MethodByName("Config"))
	if !ok {
		return ""
	}
	if v := reflect.Indirect(reflect.ValueOf(config)); v.Kind() == reflect.Struct {
		if mode := v.FieldByName("DefaultQueryExecMode"); mode.IsValid() {
			return fmt.Sprint(mode.Interface())
		}
	}
	return ""
}

// isNamed tells of a mode of pgx whether its prepared statements have names.
func isNamed(mode string) bool { return mode == "cache statement" }

// pooledDSN has pgx prepare nothing that the session would have to keep, if the program does not say how it is to run statements.
func pooledDSN(inner driver.Driver, dsn string) string {
	const param = "default_query_exec_mode"
	params, ok := paramsOf(dsn)
	if _, says := params[param]; !ok || says || !strings.Contains(drivers.Package(inner), "jackc/pgx") {
		return dsn
	}
	switch {
	case !strings.Contains(dsn, "://"):
		return dsn + " " + param + "=exec"
	case strings.Contains(dsn, "?"):
		return dsn + "&" + param + "=exec"
	}
	return dsn + "?" + param + "=exec"
}

// pooledText begins a transaction that has the locks. Unless strict, it fails above READ COMMITTED, where it would see what was before it had them. The
// settings are again what they were when it has them.
func pooledText(mode string, mark uint32, locks []server.WantedLock, wait time.Duration, anyLevel bool) string {
	var b strings.Builder
	b.WriteString("BEGIN" + mode + "; SELECT " + markCall(mark))
	if !anyLevel {
		b.WriteString(", CASE WHEN current_setting('transaction_isolation') IN ('read committed', 'read uncommitted') THEN '0' ELSE '" + levelMark + "' END::int")
	}
	if wait <= 0 {
		b.WriteString("; SELECT CASE WHEN " + calls("pg_try_advisory_xact_lock", locks, " AND ") + " THEN '0' ELSE '" + heldMark + "' END::int")
		return b.String()
	}
	b.WriteString("; SELECT set_config('dblocker.lock_timeout', current_setting('lock_timeout'), true), set_config('dblocker.statement_timeout', current_setting('statement_timeout'), true); " +
		bounded(wait) + "; SELECT " + calls("pg_advisory_xact_lock", locks, ", ") +
		"; SELECT set_config('lock_timeout', current_setting('dblocker.lock_timeout'), true), set_config('statement_timeout', current_setting('dblocker.statement_timeout'), true)")
	return b.String()
}

// handOverText exchanges a transaction that has the locks for another one, which has them before it sees anything of the database. The session has
// them in between.
func handOverText(mode string, mark uint32, locks []server.WantedLock) string {
	return "SELECT " + calls("pg_advisory_lock", locks, ", ") + "; COMMIT; BEGIN" + mode + "; SELECT " + markCall(mark) + ", " + calls("pg_advisory_xact_lock", locks, ", ") +
		", " + calls("pg_advisory_unlock", locks, ", ")
}

func acquirePooled(ctx context.Context, sc *server.Conn, locks, _ []server.WantedLock, wait time.Duration, inTx bool) error {
	if inTx {
		return errJoined
	}
	return openPooled(ctx, sc, sql.LevelDefault, "", locks, wait)
}

var errJoined = &server.LockFailure{Refused: true, Err: errors.New("dblocker: with pooler=transaction a transaction that was begun for nobody cannot become a user's: begin it with the user's context")}

// openPooled begins a transaction that has the locks. If it fails there is none, or the connection is of no more use.
func openPooled(ctx context.Context, sc *server.Conn, level sql.IsolationLevel, mode string, locks []server.WantedLock, wait time.Duration) error {
	s := pooledOf(sc)
	strict := level > sql.LevelReadCommitted || level == sql.LevelDefault && s.strict
	first := mode
	if strict {
		first = " ISOLATION LEVEL READ COMMITTED"
	}
	_, err := sc.ExecContext(ctx, pooledText(first, s.mark, locks, wait, strict), nil)
	switch {
	case err == nil && strict:
		return handOver(ctx, sc, mode, locks)
	case err == nil:
		s.lenient = s.lenient || level == sql.LevelDefault
		return nil
	}
	rollBack(ctx, sc, err)
	if strings.Contains(err.Error(), levelMark) && !sc.HasFailed() {
		s.strict = true
		return openPooled(ctx, sc, level, mode, locks, wait)
	}
	return pooledFailure(err)
}

// handOverTime is how long the server may take for what waits for nobody.
const handOverTime = 10 * time.Second

// handOver waits for nobody, and does not end with ctx: else the session, which is others' too, might keep the locks. If it fails, the connection is
// closed within a transaction, with which a pooler closes the session.
func handOver(ctx context.Context, sc *server.Conn, mode string, locks []server.WantedLock) error {
	apart, cancel := context.WithTimeout(context.WithoutCancel(ctx), handOverTime)
	defer cancel()
	_, err := sc.ExecContext(apart, handOverText(mode, pooledOf(sc).mark, locks), nil)
	if err != nil {
		sc.Fail()
	}
	return err
}

// rollBack ends a transaction in which err came.
func rollBack(ctx context.Context, sc *server.Conn, err error) {
	if SQLState(err) == "" {
		sc.Fail()
		return
	}
	apart, cancel := context.WithTimeout(context.WithoutCancel(ctx), handOverTime)
	defer cancel()
	if _, undone := sc.ExecContext(apart, "ROLLBACK", nil); undone != nil {
		sc.Fail()
	}
}

func pooledFailure(err error) error {
	if strings.Contains(err.Error(), heldMark) {
		return &server.LockFailure{Err: errHeld}
	}
	return lockFailure(err)
}

// commitPooled rolls back a transaction in which a statement has failed.
func commitPooled(ctx context.Context, sc *server.Conn, _ []server.WantedLock) error {
	_, err := sc.ExecContext(ctx, "COMMIT", nil)
	return err
}

func beginPooled(ctx context.Context, sc *server.Conn, locks, _ []server.WantedLock, wait time.Duration, opts driver.TxOptions) (tx driver.Tx, ends bool, err error) {
	mode, ok := modeOf(opts)
	if !ok || len(locks) == 0 {
		return nil, false, driver.ErrSkip
	}
	s, level := pooledOf(sc), sql.IsolationLevel(opts.Isolation)
	if _, isPgx := pgxConn(sc.Inner()); isPgx && wait > 0 && level <= sql.LevelReadCommitted && (level != sql.LevelDefault || s.lenient) {
		tx, err := beginPgx(ctx, sc.Inner(), pooledText(mode, s.mark, locks, wait, false)) // which closes the connection if that fails
		if err != nil {
			rollBack(ctx, sc, err)
			return nil, false, pooledFailure(err)
		}
		return tx, true, nil
	}
	if Process(sc.Inner()) != "" && !opts.ReadOnly {
		mode += " READ WRITE" // as lib/pq says
	}
	if err := openPooled(ctx, sc, level, mode, locks, wait); err != nil {
		return nil, false, err
	}
	if tx, err = adopt(ctx, sc); err != nil {
		sc.Fail()
	}
	return tx, true, err
}

// adopt makes a transaction of the driver of the one that is open.
func adopt(ctx context.Context, sc *server.Conn) (driver.Tx, error) {
	tx, err := beginPgx(ctx, sc.Inner(), "SELECT 1")
	if err != driver.ErrSkip {
		return tx, err
	}
	if tx, ok := sc.Inner().(driver.Tx); ok && forgetTx(sc.Inner()) {
		return tx, nil
	}
	return nil, cmp.Or(ctx.Err(), errors.New("dblocker: pooler=transaction: this version of the driver has transactions of another kind"))
}
