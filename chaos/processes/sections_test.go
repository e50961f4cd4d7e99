//go:build unix

package processes

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/calmdocs/dblocker"
)

// A lockFunc is dblocker.Lock or one of its kin.
type lockFunc = func(context.Context, dblocker.Handle, ...dblocker.SectionOption) (context.Context, func(), error)

func (r *request) lock()    { r.section("Lock", dblocker.Lock, false) }
func (r *request) rlock()   { r.section("RLock", dblocker.RLock, true) }
func (r *request) tryLock() { r.section("TryLock", dblocker.TryLock, false) }

// section does several things under one lock that the request takes itself.
func (r *request) section(what string, lock lockFunc, shared bool) {
	var opts []dblocker.SectionOption
	if r.rng.IntN(4) == 0 {
		what, opts = "pinned "+what, append(opts, dblocker.Pin())
	}
	r.enter(what, shared, []int{r.user}, func() (context.Context, func(), error) { return lock(r.ctx, r.db, opts...) })
}

// lockTwo works for two users in one section.
func (r *request) lockTwo() {
	if r.rng.IntN(5) > 0 {
		return
	}
	both := []int{r.user, r.rng.IntN(users)}
	r.enter("LockUsers", false, both, func() (context.Context, func(), error) {
		return dblocker.LockUsers(r.plain, r.db, tag(both[0]), tag(both[1]))
	})
}

// lockAll works for some users in one section of all.
func (r *request) lockAll() {
	if r.rng.IntN(8) > 0 {
		return
	}
	r.enter("LockAll", false, []int{everyUser}, func() (context.Context, func(), error) { return dblocker.LockAll(r.plain, r.db) })
}

// enter begins a section, works in it for its users, and ends it.
func (r *request) enter(what string, shared bool, of []int, lock func() (context.Context, func(), error)) {
	var ctx context.Context
	var unlock func()
	err := r.calls.do(what, func() (err error) {
		ctx, unlock, err = lock()
		return err
	})
	if err != nil {
		return
	}
	defer unlock()
	in, done := r.have(what, shared, of...)
	defer done()
	for _, user := range of {
		if user == everyUser {
			user = r.rng.IntN(users)
		}
		part := *in
		part.plain, part.user, part.reads = ctx, user, shared
		part.ctx = ctx
		if len(of) > 1 || of[0] == everyUser {
			part.ctx = dblocker.WithUser(ctx, tag(user))
		}
		part.work(what, shared)
	}
}

// work is what a request does in a section.
func (r *request) work(what string, shared bool) {
	parts := []func(*request){(*request).read, (*request).readTx, (*request).readLoop, (*request).nestedRLock}
	if !shared {
		parts = append(parts, (*request).write, (*request).writeReturning, (*request).writeSlow, (*request).rewrite, (*request).rewriteRaw, (*request).nestedLock,
			(*request).rewriteHere, (*request).rewriteHere, (*request).rewriteHere, (*request).byOtherHandle)
	}
	for range 1 + r.rng.IntN(3) {
		choose(r.rng, parts)(r)
		was, err := r.readOn(r.db, "Query in a section")
		r.think()
		r.maybePanic()
		if err != nil {
			continue
		}
		if is, err := r.readOn(r.db, "Query in a section"); err == nil {
			r.expectSame(was, is, what)
		}
	}
	if shared && r.rng.IntN(4) == 0 {
		r.refuseWrite()
	}
}

// rewriteHere reads and writes by single statements: what keeps others out is the section alone.
func (r *request) rewriteHere() {
	o := r.begin(r.user, "rewrite in a section", true)
	is, err := r.fetch(r.db, "Query of a rewrite")
	if err != nil {
		o.end(failed)
		return
	}
	o.saw(is)
	r.think()
	err = r.ask("Exec of a rewrite", func() error {
		_, err := r.db.ExecContext(r.ctx, fmt.Sprintf("UPDATE registers SET n = %d, last = '%s' WHERE id = %d", is.N+1, o.id, r.user))
		return err
	})
	o.endFor(resultOf(err), err)
}

// nestedLock begins a section inside one, of the same user or of another.
func (r *request) nestedLock() {
	inner := *r
	if r.rng.IntN(10) == 0 { // may wait in a circle
		inner.user = r.rng.IntN(users)
		inner.ctx = dblocker.WithUser(r.plain, tag(inner.user))
	}
	inner.section("nested Lock", dblocker.Lock, false)
}

func (r *request) nestedRLock() { r.section("nested RLock", dblocker.RLock, true) }

// byOtherHandle does something in the section through another handle on the database.
func (r *request) byOtherHandle() {
	other := *r
	other.db = choose(r.rng, r.dbs)
	choose(r.rng, []func(*request){(*request).read, (*request).write, (*request).rewriteHere})(&other)
}

// refuseWrite tries to write in a shared section.
func (r *request) refuseWrite() {
	o := r.begin(r.user, "write in a shared section", true)
	_, err := r.db.ExecContext(r.ctx, bump(r.user, o.id))
	if err == nil {
		r.bad("a write in a shared section was done")
	}
	o.end(failed)
}

// What follows are the controls: locks by hand, on the bare drivers, as a program might have them that knows no better.

// A byHand has a lock of the engine by hand, and gives the connection to work on.
type byHand func(r *request, work func(q querier)) error

func (p *process) bare(rng *rand.Rand, lock byHand) {
	r := &request{process: p, rng: rng, db: choose(rng, p.dbs), user: rng.IntN(users), owner: p.newID()}
	r.ctx = context.Background()
	r.calls.do("by hand", func() error { return lock(r, r.rewriteByHand) })
}

func (r *request) rewriteByHand(q querier) {
	for range 3 {
		o := r.begin(r.user, "rewrite by hand", true)
		is, err := r.fetch(q, "Query by hand")
		if err != nil {
			o.end(failed)
			return
		}
		o.saw(is)
		r.think()
		err = r.ask("Exec by hand", func() error {
			_, err := q.ExecContext(r.ctx, fmt.Sprintf("UPDATE registers SET n = %d, last = '%s' WHERE id = %d", is.N+1, o.id, r.user))
			return err
		})
		o.end(resultOf(err))
	}
}

// lockElsewhere has the lock on a connection of its own, beside the one that does the work. It is right as long as that lives.
func (p *process) lockElsewhere(r *request, work func(q querier)) error {
	guard, err := r.db.Conn(r.ctx)
	if err != nil {
		return err
	}
	defer guard.Close()
	if _, err := guard.ExecContext(r.ctx, fmt.Sprintf(p.engine.byHand[0], r.user)); err != nil {
		return err
	}
	work(r.db)
	_, err = guard.ExecContext(r.ctx, fmt.Sprintf(p.engine.byHand[1], r.user))
	return err
}

// lockOfTwoKinds has now a lock of the session, and now that of the row.
func (p *process) lockOfTwoKinds(r *request, work func(q querier)) error {
	if r.rng.IntN(2) == 0 {
		conn, err := r.db.Conn(r.ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := conn.ExecContext(r.ctx, fmt.Sprintf(p.engine.byHand[0], r.user)); err != nil {
			return err
		}
		work(conn)
		_, err = conn.ExecContext(r.ctx, fmt.Sprintf(p.engine.byHand[1], r.user))
		return err
	}
	tx, err := r.db.BeginTx(r.ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(r.ctx, fmt.Sprintf("SELECT n FROM registers WHERE id = %d FOR UPDATE", r.user)); err != nil {
		return err
	}
	work(tx)
	return tx.Commit()
}
