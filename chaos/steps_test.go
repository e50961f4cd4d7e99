package chaos

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/calmdocs/dblocker"
)

// steps are what a request may do with its user's register, through each part of
// database/sql's interface. Some are more usual than others.
var steps = []func(*request){
	(*request).read, (*request).read, (*request).read,
	(*request).readPrepared,
	(*request).readLoop, (*request).readLoop, (*request).readLoop,
	(*request).readTx,
	(*request).write, (*request).write,
	(*request).writePrepared,
	(*request).writeSeveral,
	(*request).writeReturning,
	(*request).writeSlow,
	(*request).rewrite, (*request).rewrite, (*request).rewrite,
	(*request).rewriteJoined,
	(*request).rewriteRaw,
	(*request).rewriteTwo,
	(*request).parallel,
	(*request).burst,
	(*request).lock, (*request).rlock, (*request).tryLock, (*request).do, (*request).lockTwo,
	(*request).untagged, (*request).untagged,
}

// A querier is a sql.DB, sql.Conn or sql.Tx.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// fetch reads the register with one query.
func (r *request) fetch(ctx context.Context, q querier, what string) (reg register, err error) {
	err = r.calls.do(what, func() error {
		rows, err := q.QueryContext(ctx, readQuery(r.user))
		if err != nil {
			return err
		}
		return only(rows, &reg)
	})
	return reg, err
}

// only reads the one row that there must be.
func only(rows *sql.Rows, reg *register) error {
	defer rows.Close()
	if !rows.Next() {
		return errors.Join(rows.Err(), rows.Close())
	}
	if err := rows.Scan(&reg.n, &reg.trail); err != nil {
		return err
	}
	return rows.Close()
}

// read is a query of one row.
func (r *request) read() { r.query("QueryRow") }

func (r *request) query(what string) (register, error) {
	o := r.history.begin(r.user, what, false)
	defer r.history.finish(o)
	reg, err := r.fetch(r.ctx, r.db, what)
	if err == nil {
		o.see(reg, r.history.now())
	}
	return reg, err
}

// readPrepared uses one statement twice, and keeps it while it thinks.
func (r *request) readPrepared() {
	stmt, err := r.prepare("SELECT n, trail FROM registers WHERE id = " + r.engine.mark)
	if err != nil {
		return
	}
	defer stmt.Close()
	for range 2 {
		o := r.history.begin(r.user, "Stmt.Query", false)
		var reg register
		err := r.calls.do(o.what, func() error {
			rows, err := stmt.QueryContext(r.ctx, fmt.Sprint(r.user))
			if err != nil {
				return err
			}
			return only(rows, &reg)
		})
		if err == nil {
			o.see(reg, r.history.now())
		}
		r.history.finish(o)
		r.think()
	}
}

func (r *request) prepare(query string) (stmt *sql.Stmt, err error) {
	err = r.calls.do("Prepare", func() (err error) {
		stmt, err = r.db.PrepareContext(r.ctx, query)
		return err
	})
	return stmt, err
}

// readLoop reads several rows, under a lock that may be stronger than it needs,
// and does other things between them.
func (r *request) readLoop() {
	ctx, mode := r.ctx, dblocker.Shared
	if r.rng.IntN(6) == 0 {
		mode = dblocker.Exclusive
		ctx = dblocker.WithMode(ctx, mode)
	}
	o := r.history.begin(r.user, "Query", false)
	defer r.history.finish(o)
	var rows *sql.Rows
	until := time.Now().Add(rowsLast)
	if mode == dblocker.Exclusive {
		until = time.Time{} // those last
	}
	err := r.calls.do("Query", func() (err error) {
		rows, err = r.db.QueryContext(ctx, itemsQuery(r.user))
		return err
	})
	if err != nil {
		return
	}
	defer rows.Close()
	r.eachRow(o, rows, ctx, mode, until)
}

// rowsLast is how long rows of a read have their lock for certain. They make way for who has
// waited a second for them.
const rowsLast = 900 * time.Millisecond

// eachRow is the body of readLoop. The loop is a critical section up to the first
// write within it, to make way for which the rows may be spilled; but only while a
// row is there, since the rows end by themselves in Next, and not later than until.
func (r *request) eachRow(o *op, rows *sql.Rows, ctx context.Context, mode dblocker.Mode, until time.Time) {
	locked := true
	for r.next(rows) {
		leave := func() {}
		if locked {
			leave = r.enterRows(ctx, mode, until)
			defer leave() // also if the loop panics
		}
		var reg register
		if rows.Scan(&reg.n, &reg.trail) == nil {
			o.see(reg, r.history.now())
		}
		r.think()
		r.maybePanic()
		if owners && locked && r.rng.IntN(4) == 0 {
			r.readAgainUntil(until, reg, ctx, "QueryRow in a Rows loop")
		}
		leave()
		switch r.rng.IntN(16) {
		case 0:
			locked = false
			choose(r.rng, []func(*request){(*request).write, (*request).writeReturning, (*request).rewrite})(r)
		case 1:
			return // which closes the rows before their end
		}
	}
}

func (r *request) next(rows *sql.Rows) (more bool) {
	r.calls.do("Rows.Next", func() error {
		more = rows.Next()
		return rows.Err()
	})
	return more
}

// readAgain expects the register to be as it was, since the request has it locked
// all the time. If it is told to wait, it was for itself.
func (r *request) readAgain(was register, ctx context.Context, what string) {
	r.readAgainUntil(time.Time{}, was, ctx, what)
}

// readAgainUntil expects it where the lock may make way at a time; the zero time is never.
func (r *request) readAgainUntil(until time.Time, was register, ctx context.Context, what string) {
	reg, err := r.query(what)
	if !until.IsZero() && time.Now().After(until) {
		return
	}
	if err != nil {
		r.expectNoSelfWait(what, err)
		return
	}
	r.expectSame(was, reg, ctx, what)
}

// expectSame compares two reads under one lock. The end of ctx, which gives up the
// lock, is asked for after the second.
func (r *request) expectSame(was, is register, ctx context.Context, what string) {
	if is != was && ctx.Err() == nil {
		r.violate("%s: the register of user %d was %v and is %v, under one lock", what, r.user, was, is)
	}
}

// expectNoSelfWait is for calls that are covered by a lock of the same request:
// they may wait for a connection, but not for the user. The end of the context may
// have taken that lock away. Without WAL they also wait for the gate, and somebody who has that
// may want the user's lock, or wait for the connections of requests whose owners nobody knows.
func (r *request) expectNoSelfWait(what string, err error) {
	if r.engine.journal != "" && err != nil && (errors.Is(err, dblocker.ErrDeadlock) || strings.Contains(err.Error(), "for the gate of ")) {
		return
	}
	var le *dblocker.LockError
	if errors.As(err, &le) && le.User != "" && r.ctx.Err() == nil {
		r.violate("%s: the request was in its own way: %v", what, err)
	}
}

// readTx reads twice in a read-only transaction.
func (r *request) readTx() {
	tx, err := r.beginTx(r.ctx, "Begin read-only", &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return
	}
	defer r.rollback(tx)
	begun, leave := r.enterTx(dblocker.Shared, "a read-only Tx")
	defer leave()
	o := r.history.begin(r.user, "read-only Tx", false)
	defer r.history.finish(o)
	first, err := r.fetch(r.ctx, tx, "Tx.Query")
	if err != nil {
		return
	}
	begun()
	o.see(first, r.history.now())
	r.think()
	r.maybePanic()
	if second, err := r.fetch(r.ctx, tx, "Tx.Query"); err == nil {
		r.expectSame(first, second, r.ctx, "read-only Tx")
	}
	leave()
	if owners && !r.reads && !r.one && r.engine.server && r.rng.IntN(8) == 0 {
		// Two who do this at a time wait for each other: one gets ErrDeadlock.
		r.writeOnce("Exec beside a read-only Tx")
	}
	r.calls.do("Commit read-only", tx.Commit)
}

// enterTx is enter for a transaction. On SQLite its first statement may give the lock up and
// take it again, so there it only counts when that has returned, and begun was called.
func (r *request) enterTx(mode dblocker.Mode, what string) (begun, leave func()) {
	if r.engine.server {
		return func() {}, r.enter(r.ctx, mode, what)
	}
	end := func() {}
	return func() { end = r.enter(r.ctx, mode, what) }, func() { end() }
}

func (r *request) beginTx(ctx context.Context, what string, opts *sql.TxOptions) (tx *sql.Tx, err error) {
	err = r.calls.do(what, func() (err error) {
		tx, err = r.db.BeginTx(ctx, opts)
		return err
	})
	return tx, err
}

func (r *request) rollback(tx *sql.Tx) { r.calls.do("Rollback", tx.Rollback) }

// write increases the register in one statement.
func (r *request) write() { r.writeOnce("Exec") }

func (r *request) writeOnce(what string) error {
	return r.exec(what, func(ctx context.Context, id string) (sql.Result, error) {
		if r.engine.bound != "" && r.rng.IntN(4) > 0 { // a text that comes again may be combined with others
			return r.db.ExecContext(ctx, r.engine.bound, id, fmt.Sprint(r.user))
		}
		return r.db.ExecContext(ctx, fmt.Sprintf(bump, r.user, id))
	})
}

// writeSlow takes its time, so that contexts end while the server is at work.
func (r *request) writeSlow() {
	r.exec("slow Exec", func(ctx context.Context, id string) (sql.Result, error) {
		return r.db.ExecContext(ctx, fmt.Sprintf(bump, r.user, id)+r.engine.slow)
	})
}

// writeSeveral has several statements in one string.
func (r *request) writeSeveral() {
	r.exec("Exec of several", func(ctx context.Context, id string) (sql.Result, error) {
		return r.db.ExecContext(ctx, "UPDATE items SET i = i WHERE i = 0; "+fmt.Sprintf(bump, r.user, id))
	})
}

// writePrepared increases the register with a statement that is prepared once for
// each write: the ID of the write is in its text.
func (r *request) writePrepared() {
	r.exec("Stmt.Exec", func(ctx context.Context, id string) (sql.Result, error) {
		stmt, err := r.db.PrepareContext(ctx, fmt.Sprintf(bump, r.user, id)+" AND id = "+r.engine.mark)
		if err != nil {
			return nil, err
		}
		defer stmt.Close()
		return stmt.ExecContext(ctx, fmt.Sprint(r.user))
	})
}

// exec records a write of one call.
func (r *request) exec(what string, f func(ctx context.Context, id string) (sql.Result, error)) error {
	o := r.history.begin(r.user, what, true)
	defer r.history.finish(o)
	o.result = unknown
	var res sql.Result
	err := r.calls.do(what, func() (err error) {
		res, err = f(r.writing(), o.id)
		return err
	})
	o.result = resultOf(err)
	if n, err := affected(res); o.result == acked && err == nil && n != 1 {
		r.violate("%s of user %d has changed %d rows, and reported no error", what, r.user, n)
		o.result = unknown
	}
	return err
}

func affected(res sql.Result) (int64, error) {
	if res == nil {
		return 0, errors.New("no result")
	}
	return res.RowsAffected()
}

// resultOf tells what a call's error says of the write that it was to bring about.
func resultOf(err error) outcome {
	var le *dblocker.LockError
	switch {
	case err == nil:
		return acked
	case errors.As(err, &le): // nothing was sent
		return failed
	}
	return unknown
}

// writeReturning is a Query that writes; the rows are the answer.
func (r *request) writeReturning() {
	o := r.history.begin(r.user, "Query that writes", true)
	defer r.history.finish(o)
	o.result = unknown
	var after register
	err := r.calls.do(o.what, func() error {
		rows, err := r.db.QueryContext(r.writing(), fmt.Sprintf(r.engine.returning, r.user, o.id))
		if err != nil {
			return err
		}
		return only(rows, &after)
	})
	o.result = resultOf(err)
	if o.result == acked && after.last() != o.id {
		r.violate("%s %s of user %d returned the register after %s", o.what, o.id, r.user, after.last())
	}
}

// rewrite reads the register and writes it back increased, in a transaction. It is
// what loses updates where nothing keeps others out.
func (r *request) rewrite() {
	tx, err := r.beginTx(r.ctx, "Begin", nil)
	if err != nil {
		return
	}
	defer r.rollback(tx)
	begun, leave := r.enterTx(dblocker.Exclusive, "a Tx")
	defer leave()
	if owners && !r.one {
		r.besideTx()
	}
	o := r.history.begin(r.user, "Tx", true)
	defer r.history.finish(o)
	if !r.readModifyWrite(o, tx, begun) || r.rng.IntN(10) == 0 {
		return // which rolls back
	}
	r.maybePanic()
	leave()
	r.commit(o, tx)
}

func (r *request) commit(o *op, tx *sql.Tx) {
	o.result = unknown
	o.result = resultOf(r.calls.do("Commit", tx.Commit))
}

// rewriteJoined is rewrite in a transaction that was begun for nobody, as some
// libraries do: its first statement takes the user's lock. SQLite is spared, where
// such a transaction would already keep the user's other writes waiting.
func (r *request) rewriteJoined() {
	if !r.engine.server {
		return
	}
	tx, err := r.beginTx(r.plain, "untagged Begin", nil)
	if err != nil {
		return
	}
	defer r.rollback(tx)
	o := r.history.begin(r.user, "joined Tx", true)
	defer r.history.finish(o)
	if r.readModifyWrite(o, tx, func() {}) {
		leave := r.enter(r.ctx, dblocker.Exclusive, "a joined Tx")
		defer leave()
		r.think()
		r.maybePanic()
		leave()
		r.commit(o, tx)
	}
}

// readModifyWrite does what is in the name, on a Tx or in a transaction of a Conn. It calls begun
// after its first statement.
func (r *request) readModifyWrite(o *op, q querier, begun func()) bool {
	reg, err := r.fetch(r.ctx, q, "Query in a "+o.what)
	if err != nil {
		return false
	}
	o.see(reg, r.history.now())
	begun()
	r.think()
	query := writeQuery(r.user, reg.then(o.id))
	if r.rng.IntN(10) == 0 {
		query += r.engine.slow
	}
	return nil == r.calls.do("Exec in a "+o.what, func() error {
		_, err := q.ExecContext(r.writing(), query)
		return err
	})
}

// besideTx works on the handle while the request's own transaction is open: what
// works on the bare driver works at once. It comes before the transaction has
// touched the register, so that the server has no reason to let them wait.
func (r *request) besideTx() {
	switch r.rng.IntN(6) {
	case 0:
		if r.engine.journal != "" { // where SQLite itself lets nobody read beside it
			return
		}
		const what = "QueryRow beside a Tx"
		_, err := r.query(what)
		r.expectNoSelfWait(what, err)
	case 1:
		const what = "Exec beside a Tx"
		if r.engine.server { // SQLite itself lets only one write at a time
			r.expectNoSelfWait(what, r.writeOnce(what))
		}
	}
}

// rewriteTwo has a transaction of another user inside of one of its own. Requests that
// do so in opposite orders wait for each other, which must end; it is rare, since all
// the others have to wait with them. SQLite has no two transactions that write.
func (r *request) rewriteTwo() {
	if !r.engine.server || r.rng.IntN(20) > 0 {
		return
	}
	tx, err := r.beginTx(r.ctx, "Begin", nil)
	if err != nil {
		return
	}
	defer r.rollback(tx)
	defer r.enter(r.ctx, dblocker.Exclusive, "an outer Tx")()
	r.think()
	other := *r
	other.user = r.rng.IntN(users)
	other.owner = new(owner)
	other.ctx = dblocker.WithUser(r.plain, r.tag(other.user))
	other.rewrite()
}

// rewriteRaw is rewrite in a transaction that is written in SQL.
func (r *request) rewriteRaw() {
	var conn *sql.Conn
	err := r.calls.do("Conn", func() (err error) {
		conn, err = r.db.Conn(r.ctx)
		return err
	})
	if err != nil {
		return
	}
	defer conn.Close()
	if r.sql(r.ctx, conn, r.engine.begin) != nil {
		r.abandon(conn)
		return
	}
	ended := false
	defer func() {
		if !ended {
			r.abandon(conn)
		}
	}()
	o := r.history.begin(r.user, "BEGIN", true)
	defer r.history.finish(o)
	r.pause("a BEGIN")
	if !r.readModifyWrite(o, conn, func() {}) {
		return
	}
	r.pause("a BEGIN")
	o.result = unknown
	err = r.sql(r.writing(), conn, "COMMIT")
	o.result, ended = resultOf(err), err == nil
}

// pause is a critical section between two statements of a transaction in SQL. The
// end of a context does not end the transaction there, but it does, on some engines,
// within a statement; so the statements are not in the section.
func (r *request) pause(what string) {
	leave := r.enter(testContext, dblocker.Exclusive, what)
	defer leave()
	r.think()
	r.maybePanic()
}

func (r *request) sql(ctx context.Context, conn *sql.Conn, statement string) error {
	return r.calls.do(statement, func() error {
		_, err := conn.ExecContext(ctx, statement)
		return err
	})
}

// abandon ends what may be a transaction on the connection, as a careful program
// does: a connection that cannot be rolled back must not go back to the pool.
func (r *request) abandon(conn *sql.Conn) {
	ctx := context.WithoutCancel(r.ctx)
	if _, err := conn.ExecContext(ctx, "ROLLBACK"); err != nil {
		_ = conn.Raw(func(any) error { return errBroken })
	}
}

// parallel does two things at a time, each as an owner of its own.
func (r *request) parallel() {
	steps := []func(*request){(*request).read, (*request).write, (*request).rewrite, (*request).readLoop}
	r.atOnce(2, func(_ int, part *request) { choose(part.rng, steps)(part) })
}

// burst writes for all users at once, so that on SQLite one runs the statements of those who wait.
func (r *request) burst() {
	r.atOnce(users, func(user int, part *request) {
		part.user, part.ctx = user, dblocker.WithUser(part.ctx, part.tag(user))
		part.write()
	})
}

// atOnce does n things at a time, each as an owner of its own.
func (r *request) atOnce(n int, do func(i int, part *request)) {
	done := make(chan any)
	for i := range n {
		part := r.fork()
		go func() {
			defer func() { done <- recover() }()
			do(i, part)
		}()
	}
	for range n {
		if p := <-done; p != nil && p != errOops {
			panic(p)
		}
	}
}
