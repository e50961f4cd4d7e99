//go:build unix

package processes

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/calmdocs/dblocker"
)

// A request is one of a user. What it does, it does as one owner.
type request struct {
	*process
	rng   *rand.Rand
	db    *sql.DB
	user  int
	ctx   context.Context
	plain context.Context // ctx without its user
	owner string
	had   *having // of the section or transaction that it is in; else nil
	reads bool    // it is in a shared section
}

// A having is a lock while a request has it.
type having struct {
	event
	until int64 // when the last statement was sent that was answered well
}

// steps are what a request may do. Some are more usual than others.
var steps = []func(*request){
	(*request).read, (*request).read, (*request).read,
	(*request).readLoop, (*request).readLoop,
	(*request).readTx,
	(*request).write, (*request).write, (*request).writeSlow, (*request).writeReturning,
	(*request).rewrite, (*request).rewrite, (*request).rewrite,
	(*request).rewriteRaw, (*request).rewriteRaw,
	(*request).rewriteJoined,
	(*request).rewriteTwo,
	(*request).lock, (*request).lock, (*request).rlock, (*request).tryLock, (*request).lockTwo, (*request).lockAll,
}

// errOops is what requests panic with.
var errOops = errors.New("a bug in a handler")

// serve runs a request from its arrival to its end. It may leave through a panic.
func (p *process) serve(rng *rand.Rand) {
	defer func() {
		if thrown := recover(); thrown != nil && thrown != errOops {
			panic(thrown)
		}
	}()
	ctx, cancel := deadline(rng)
	defer cancel()
	r := &request{process: p, rng: rng, db: choose(rng, p.dbs), user: rng.IntN(users), plain: ctx, owner: p.newID()}
	r.ctx = dblocker.WithUser(ctx, tag(r.user))
	for range 1 + rng.IntN(2) {
		choose(rng, steps)(r)
	}
}

// deadline lets the context of some requests end, at a random moment, in one of the two ways.
func deadline(rng *rand.Rand) (context.Context, context.CancelFunc) {
	ctx, after := context.Background(), time.Duration(rng.Int64N(int64(60*time.Millisecond)))
	switch rng.IntN(10) {
	case 0:
		return context.WithTimeout(ctx, after)
	case 1:
		ctx, cancel := context.WithCancel(ctx)
		time.AfterFunc(after, cancel)
		return ctx, cancel
	}
	return context.WithCancel(ctx)
}

func choose[T any](rng *rand.Rand, from []T) T { return from[rng.IntN(len(from))] }

// A querier is a sql.DB, sql.Conn or sql.Tx.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// ask makes a call that the server answers: if well, then the lock was there when it was sent.
func (r *request) ask(what string, f func() error) error {
	sent := now()
	err := r.calls.do(what, f)
	if err == nil && r.had != nil {
		r.had.until = sent
	}
	return err
}

// have begins to have a lock. That is noted when done is called, as far as it is certain.
func (r *request) have(what string, shared bool, users ...int) (inside *request, done func()) {
	in := *r
	in.had = &having{event: event{Kind: eventHeld, What: what, Shared: shared, Owner: r.owner, From: now()}}
	return &in, func() {
		for _, user := range users {
			if e := in.had.event; in.had.until > 0 {
				e.User, e.At = user, in.had.until
				r.note(e)
			}
		}
	}
}

const readQuery = "SELECT n, last FROM registers WHERE id = "

// fetch reads the register by one query.
func (r *request) fetch(q querier, what string) (is state, err error) {
	err = r.ask(what, func() error {
		query, args := readQuery+"?", []any{r.user}
		if r.rng.IntN(2) == 0 {
			query, args = readQuery+fmt.Sprint(r.user), nil
		}
		rows, err := q.QueryContext(r.ctx, r.engine.arguments(query), args...)
		if err != nil {
			return err
		}
		return only(rows, &is)
	})
	return is, err
}

// only reads the one row that there must be.
func only(rows *sql.Rows, is *state) error {
	defer rows.Close()
	if !rows.Next() {
		return errors.Join(rows.Err(), rows.Close())
	}
	if err := rows.Scan(&is.N, &is.Last); err != nil {
		return err
	}
	return errors.Join(rows.Close(), rows.Err())
}

func (r *request) read() { r.readOn(r.db, "Query") }

func (r *request) readOn(q querier, what string) (is state, err error) {
	o := r.begin(r.user, what, false)
	if is, err = r.fetch(q, what); err == nil {
		o.saw(is)
	}
	o.end(failed)
	return is, err
}

// readLoop reads several rows, does something else between them, and may leave them open until the request ends.
func (r *request) readLoop() {
	o := r.begin(r.user, "Query of several", false)
	defer func() { o.end(failed) }()
	var rows *sql.Rows
	err := r.calls.do("Query of several", func() (err error) {
		rows, err = r.db.QueryContext(r.ctx, "SELECT n, last FROM registers, items WHERE id = "+fmt.Sprint(r.user)+" ORDER BY i")
		return err
	})
	if err != nil {
		return
	}
	if r.rng.IntN(4) > 0 {
		defer rows.Close()
	}
	for first := true; r.next(rows); first = false {
		var is state
		if first && rows.Scan(&is.N, &is.Last) == nil {
			o.saw(is)
		}
		r.think()
		switch r.rng.IntN(20) {
		case 0:
			inside := []func(*request){(*request).read, (*request).write, (*request).rewrite}
			if r.reads {
				inside = inside[:1]
			}
			choose(r.rng, inside)(r)
		case 1:
			return
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

// write increases the register in one statement.
func (r *request) write() {
	r.exec("Exec", func(id string) (sql.Result, error) {
		if r.rng.IntN(2) == 0 {
			return r.db.ExecContext(r.ctx, r.engine.arguments("UPDATE registers SET n = n + 1, last = ? WHERE id = ?"), id, r.user)
		}
		return r.db.ExecContext(r.ctx, bump(r.user, id))
	})
}

func bump(user int, id string) string {
	return fmt.Sprintf("UPDATE registers SET n = n + 1, last = '%s' WHERE id = %d", id, user)
}

// writeSlow takes its time, so that faults come while the server is at work.
func (r *request) writeSlow() {
	r.exec("slow Exec", func(id string) (sql.Result, error) {
		return r.db.ExecContext(r.ctx, bump(r.user, id)+r.engine.slow)
	})
}

// exec records a write of one call.
func (r *request) exec(what string, f func(id string) (sql.Result, error)) {
	o := r.beginWrite(what)
	var res sql.Result
	err := r.ask(what, func() (err error) {
		res, err = f(o.id)
		return err
	})
	if err == nil {
		if n, err := res.RowsAffected(); err == nil && n != 1 {
			r.bad("%s of user %d has changed %d rows, and reported no error", what, r.user, n)
		}
	}
	o.endFor(o.resultOf(err), err)
}

// A write is a record of one statement.
type write struct {
	record
	again bool
}

// beginWrite notes that one is about to be sent. On PostgreSQL database/sql sends it again if the connection ends before the answer is
// there, be it that the first was executed: lib/pq tells it that nothing was sent, and so does pgx, of a statement without arguments. In a
// section and a transaction it does not.
func (r *request) beginWrite(what string) write {
	again := r.engine == postgres && r.had == nil
	return write{r.beginOp(event{User: r.user, What: what, Writes: true, Again: again}), again}
}

func (w write) resultOf(err error) outcome {
	if err != nil && w.again {
		return unknown
	}
	return resultOf(err)
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
	o := r.beginWrite("Query that writes")
	var is state
	err := r.ask("Query that writes", func() error {
		rows, err := r.db.QueryContext(r.ctx, fmt.Sprintf(r.engine.returning, r.user, o.id))
		if err != nil {
			return err
		}
		return only(rows, &is)
	})
	if err == nil && is.Last != o.id {
		r.bad("%s of user %d returned the register after %s", o.id, r.user, is.Last)
	}
	o.endFor(o.resultOf(err), err)
}

// think is the time that a handler spends on other things. A few take so long that those who wait give up.
func (r *request) think() {
	switch {
	case r.rng.IntN(4000) == 0:
		time.Sleep(lockTimeout + lockTimeout/4)
	case r.rng.IntN(2) == 0:
		time.Sleep(time.Duration(r.rng.Int64N(int64(time.Millisecond))))
	}
}

// maybePanic is called where a handler has a lock.
func (r *request) maybePanic() {
	if r.rng.IntN(50) == 0 {
		panic(errOops)
	}
}
