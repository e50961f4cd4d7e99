//go:build unix

package processes

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"

	"github.com/calmdocs/dblocker"
)

// readTx reads twice in a transaction that only reads.
func (r *request) readTx() {
	tx, err := r.beginTx(r.ctx, "Begin read-only", &sql.TxOptions{ReadOnly: true, Isolation: choose(r.rng, r.engine.levels)})
	if err != nil {
		return
	}
	defer r.rollback(tx)
	in, done := r.have("a read-only Tx", true, r.user)
	defer done()
	was, err := in.readOn(tx, "Query in a read-only Tx")
	if err != nil {
		return
	}
	r.think()
	if is, err := in.readOn(tx, "Query in a read-only Tx"); err == nil {
		r.expectSame(was, is, "a read-only Tx")
	}
	in.ask("Commit read-only", tx.Commit)
}

func (r *request) expectSame(was, is state, what string) {
	if was != is {
		r.bad("%s: the register of user %d was %v and is %v, under one lock", what, r.user, was, is)
	}
}

func (r *request) beginTx(ctx context.Context, what string, opts *sql.TxOptions) (tx *sql.Tx, err error) {
	err = r.ask(what, func() (err error) {
		tx, err = r.db.BeginTx(ctx, opts)
		return err
	})
	return tx, err
}

func (r *request) rollback(tx *sql.Tx) { r.calls.do("Rollback", tx.Rollback) }

// rewrite reads the register and writes it back increased, in a transaction. It is what loses updates where nothing keeps
// others out.
func (r *request) rewrite() {
	tx, err := r.beginTx(r.ctx, "Begin", &sql.TxOptions{Isolation: choose(r.rng, r.engine.levels)})
	if err != nil {
		return
	}
	defer r.rollback(tx)
	in, done := r.have("a Tx", false, r.user)
	defer done()
	in.rewriteIn(tx, "Tx", tx.Commit)
}

// rewriteIn is rewrite in a transaction that is there, which commit ends.
func (r *request) rewriteIn(q querier, what string, commit func() error) (ended bool) {
	o := r.begin(r.user, what, true)
	result, why := failed, error(nil)
	defer func() { o.endFor(result, why) }()
	is, err := r.fetch(q, "Query in a "+what)
	if err != nil {
		return false
	}
	o.saw(is)
	r.think()
	r.maybePanic()
	query := fmt.Sprintf("UPDATE registers SET n = %d, last = '%s' WHERE id = %d", is.N+1, o.id, r.user)
	if r.rng.IntN(10) == 0 {
		query += r.engine.slow
	}
	if nil != r.ask("Exec in a "+what, func() error {
		_, err := q.ExecContext(r.ctx, query)
		return err
	}) || r.rng.IntN(10) == 0 {
		return false // which rolls back
	}
	r.think()
	result = unknown // should it panic
	err = r.ask("Commit of a "+what, commit)
	result, why = resultOf(err), err
	return err == nil
}

// rewriteJoined is rewrite in a transaction that was begun for nobody: its first statement takes the user's lock.
func (r *request) rewriteJoined() {
	if r.engine.server == nil {
		return // there it would keep all others waiting
	}
	tx, err := r.beginTx(r.plain, "Begin for nobody", nil)
	if err != nil {
		return
	}
	defer r.rollback(tx)
	r.rewriteIn(tx, "joined Tx", tx.Commit)
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
	ended := false
	defer func() {
		if !ended {
			r.abandon(conn)
		}
	}()
	if r.sql(conn, choose(r.rng, r.engine.begins)) != nil {
		return
	}
	in, done := r.have("a transaction in SQL", false, r.user)
	defer done()
	ended = in.rewriteIn(conn, "transaction in SQL", func() error {
		_, err := conn.ExecContext(r.ctx, "COMMIT")
		return err
	})
}

func (r *request) sql(conn *sql.Conn, statement string) error {
	return r.ask(statement, func() error {
		_, err := conn.ExecContext(r.ctx, statement)
		return err
	})
}

// abandon ends what may be a transaction on the connection, as a careful program does.
func (r *request) abandon(conn *sql.Conn) {
	if _, err := conn.ExecContext(context.WithoutCancel(r.ctx), "ROLLBACK"); err != nil {
		conn.Raw(func(any) error { return driver.ErrBadConn })
	}
}

// rewriteTwo has a transaction of another user inside one of its own. Requests that do so in opposite orders wait for each
// other, which must end; it is rare, since the others have to wait with them.
func (r *request) rewriteTwo() {
	if r.engine.server == nil || r.rng.IntN(20) > 0 {
		return
	}
	tx, err := r.beginTx(r.ctx, "Begin", nil)
	if err != nil {
		return
	}
	defer r.rollback(tx)
	other := *r
	other.user = r.rng.IntN(users)
	other.owner = r.newID()
	other.ctx = dblocker.WithUser(r.plain, tag(other.user))
	other.rewrite()
}
