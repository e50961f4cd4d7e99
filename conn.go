package dblocker

import (
	"context"
	"database/sql/driver"
	"sync"
	"sync/atomic"

	"github.com/calmdocs/dblocker/internal/backend"
	"github.com/calmdocs/dblocker/internal/callers"
	"github.com/calmdocs/dblocker/internal/databases"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

var (
	_ RawConn                   = (*conn)(nil)
	_ driver.Pinger             = (*conn)(nil)
	_ driver.ConnPrepareContext = (*conn)(nil)
	_ driver.ConnBeginTx        = (*conn)(nil)
	_ driver.ExecerContext      = (*conn)(nil)
	_ driver.QueryerContext     = (*conn)(nil)
	_ driver.NamedValueChecker  = (*conn)(nil)
	_ driver.SessionResetter    = (*conn)(nil)
	_ driver.Validator          = (*conn)(nil)
)

// A RawConn is what [sql.Conn.Raw] passes to its callback for a handle opened
// through dblocker.
type RawConn interface {
	driver.Conn

	// Raw calls f with the connection of the inner driver. What f does is behind
	// no user's lock. It is the way to a certain connection: a hook that the inner
	// driver calls for each new one sees those that dblocker has for itself too.
	Raw(f func(driverConn any) error) error
}

// A conn is a client connection: what database/sql holds of us. It costs nothing
// until an operation draws a server connection, which happens once the operation
// has its lock. From then on it keeps that one until database/sql takes it back
// (IsValid) or throws it away (Close), so a session on a sql.Conn, a Tx or Rows
// is one session on the server. (A connection that was drawn to prepare a
// statement goes back when the statement then has to wait for a lock.)
//
// database/sql calls its methods one at a time, also when it ends a Tx whose context
// has ended. The end of a section and a fill of rows come from other goroutines: mu
// keeps them and the calls apart. The grant of a lock does too, but touches only the hold.
type conn struct {
	db      *handle
	backend *backend.Backend // whose shared parts it retains until Close
	bound   *section         // that all its work is inside; nil if it is as each context says

	fills fillTurn   // that have mu between the calls
	mu    sync.Mutex // held during each call, fill and end of a section; guards what follows that is not atomic. sweep follows each unlock: see turn
	gone  ending     // why c is of no more use; inUse while it is
	quit  bool       // has given up its backend and its place in bound
	lent  bool       // Raw shows the inner connection to the program

	// busy means that the drawn connection has done more than to prepare
	// statements and to answer pings, so that it cannot be exchanged for another.
	busy usage

	// spent means that the connection has returned a Result. Its methods lock
	// the connection even after it went back to database/sql's pool. If the next
	// to use it then waited for a lock of the one who still reads the Result,
	// neither would ever get on: so it is not used again.
	spent bool

	// pooled means that database/sql has it in its pool, without a server connection, or is about
	// to close it. Only database/sql's own calls look at it, which come one after the other.
	pooled bool

	called callers.Entry // what the program has called that has c until IsValid; Unknown until somebody asks

	goesOn bool // database/sql goes on to use c if the call that is running panics
	late   late
	raises *server.PanicError // with which Close panics; else nil

	inBound locks.Member // in bound, while there may be something to close
	using   *pin         // whose turn the call has; else nil
	pins    *pinUse      // nil until using, or pinned, is set for the first time

	drawn    server.Lease       // has no Conn unless one is drawn
	pinned   *pin               // whose connection that is; nil if c has drawn it itself
	gates    *databases.GateSet // of attached files, that the operation or the open transaction has passed
	expected []string           // the files that the running statement may attach
	slot     rwlock.Hold        // held while it is, if their number is limited
	debt     debt               // of the running call
	stmts    []*stmt            // those with an inner statement on it

	// self is the owner of what c has where nobody else is. Its calls run one at a time, so
	// while one of them waits, all of that is stuck: the deadlock search is to know.
	self rwlock.Owner

	transaction *transaction // the innermost open transaction, or nil; while c is pinned the turn guards what is in it
	raw         *rawTx       // the one that is written in SQL, or nil
	leaf        locks.Hold   // of the Exec that is running

	// On a handle with a database for each user, a tenantConn has c, and c has the user's database in use, at which it is, until it goes back
	// to its tenant, or is of no more use, whatever comes first: for what panics database/sql may never ask again. Nil elsewhere.
	tenancy *tenancy
	at      atomic.Pointer[tenantEntry]

	resident locks.Resident // what sections know of it
	reaching *reachWait     // of the running call; nil before one has needed it
}

// Ping implements [driver.Pinger]. It takes no user's lock.
func (c *conn) Ping(ctx context.Context) error {
	op := c.operation(ctx)
	return c.call(&op, func() error {
		return c.anew(func() error {
			defer c.leaf.Release()
			if err := c.passGate(&op, &c.leaf); err != nil {
				return err
			}
			return c.onServer(ctx, &op, idle, func(sc *server.Conn) error {
				if c.db.tellsCalls {
					return c.toldCall(ctx, op.id.User, "PING", func() error { return sc.Ping(ctx) })
				}
				return sc.Ping(ctx)
			})
		})
	})
}

// ExecContext implements [driver.ExecerContext].
func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (res driver.Result, err error) {
	op := c.operation(ctx)
	var d debt
	err = c.call(&op, func() (err error) {
		c.goesOn = true
		c.noteEntry(&op, query)
		res, err = c.exec(&op, nil, query, args)
		d = c.takeDebt(op.called)
		return err
	})
	if err = c.repay(ctx, &d, err); err != nil {
		return nil, err
	}
	return res, nil
}

// QueryContext implements [driver.QueryerContext].
func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.query(ctx, nil, query, args)
}

// PrepareContext implements [driver.ConnPrepareContext]. It takes no user's lock.
func (c *conn) PrepareContext(ctx context.Context, query string) (prepared driver.Stmt, err error) {
	if s := c.prepareAsText(query); s != nil {
		return s, nil
	}
	op := c.operation(ctx)
	err = c.call(&op, func() error {
		return c.anew(func() error {
			defer c.leaf.Release()
			if err := c.startTx(&op); err != nil {
				return err
			}
			if err := c.passGate(&op, &c.leaf); err != nil {
				return err
			}
			s := &stmt{conn: c, text: query, statement: c.db.texts.Classify(query)}
			if s.statement.Combines || c.backend.WAL != nil {
				s.called = c.entryPoint()
			}
			snd := server.Call{Statement: s.statement, Query: query, InTx: c.transactionOnServer() != nil}
			err := c.onServer(ctx, &op, idle, func(sc *server.Conn) error {
				ss, err := s.on(ctx, sc, &snd)
				if err == nil && s.called == callers.Handle { // then it may be combined with others
					s.inputs = ss.Inputs()
				}
				return err
			})
			if err == nil {
				prepared = s
			}
			return err
		})
	})
	return prepared, err
}

// BeginTx implements [driver.ConnBeginTx].
func (c *conn) BeginTx(ctx context.Context, opts driver.TxOptions) (begun driver.Tx, err error) {
	op := c.operation(ctx)
	if c.backend.Combining.HasWaiting() || c.backend.WAL != nil {
		op.called = c.entryPoint()
	}
	err = c.callHeld(&op, func() error {
		t := &tx{called: op.called}
		if c.beginsLater() {
			if err := t.beginLater(&op, c, opts); err != nil {
				return err
			}
			begun = t
			return nil
		}
		if err := c.startTx(&op); err != nil {
			return err
		}
		if err := c.spillConnection(ctx, sqltext.Statement{Kind: sqltext.Begin}); err != nil {
			return err
		}
		if err := t.begin(&op, c, opts); err != nil {
			return err
		}
		begun = t
		return nil
	})
	return begun, err
}

// Raw implements [RawConn].
func (c *conn) Raw(f func(driverConn any) error) error {
	var d debt
	err := c.callRaw(f, &d)
	return c.repay(context.Background(), &d, err)
}

func (c *conn) callRaw(f func(driverConn any) error, d *debt) error {
	sc, err := c.lend()
	if err != nil {
		return err
	}
	returned := false
	defer func() {
		err := c.lockCall()
		defer c.leave()
		c.lent = false
		if err != nil { // database/sql has c only for this call, and closes it if that panicked
			return
		}
		c.drawn.Conn.NoteRaw()
		if !returned {
			c.abandon(nil, nil) // as database/sql is about to
		} else if sc == c.drawn.Conn {
			c.lookAttached(context.Background(), sc)
			c.noteWritten(sqltext.Statement{})
			c.noteDebt(sqltext.Statement{}, nil)
			*d = c.takeDebt(callers.Other)
		}
	}()
	err = f(sc.Inner())
	returned = true
	return err
}

// lend draws a server connection for Raw, whose callback may call c again.
func (c *conn) lend() (sc *server.Conn, err error) {
	op := c.background()
	err = c.call(&op, func() error {
		if err := c.anew(func() error { return c.startTx(&op) }); err != nil {
			return err
		}
		if err := c.drawForRaw(&op); err != nil {
			return err
		}
		c.busy, c.lent = true, true
		sc = c.drawn.Conn
		if c.backend.Gate != nil { // others tell by themselves, or are not asked for so little
			sc.Doubt()
		}
		return nil
	})
	return sc, err
}

// drawForRaw passes the gate while a new connection may read the schema.
func (c *conn) drawForRaw(op *operation) error {
	if c.drawn.Conn != nil {
		return nil
	}
	return c.anew(func() error {
		defer c.leaf.Release()
		if err := c.passGate(op, &c.leaf); err != nil {
			return err
		}
		if err := c.draw(op.ctx, op); err != nil {
			return err
		}
		return c.checkAttached()
	})
}

// wait is how operations on c wait for a user's lock.
func (c *conn) wait() rwlock.Wait {
	w := c.db.wait()
	if c.bound != nil {
		w.Closed = c.bound.Done()
	}
	return w
}

// release ends what an operation holds, or leaves it to a lost session.
func (c *conn) release(h *locks.Hold) {
	defer func() {
		if h.Release() {
			c.backend.WALReader.Note()
		}
	}()
	c.leaveToLost(h)
}

// leaveToLost moves the grant of h to the connection's session, if that has lost
// its connection: the server may still be at work under it.
func (c *conn) leaveToLost(h *locks.Hold) {
	if sc := c.drawn.Conn; sc != nil && !sc.HasRows() && !sc.IsSettling() && sc.IsLost() {
		c.backend.Lost.Adopt(sc.Session, h)
	}
}

// ResetSession implements [driver.SessionResetter]. The inner pool resets server
// connections when they are drawn; here is one only if IsValid has kept it.
func (c *conn) ResetSession(ctx context.Context) error {
	c.noteTaken()
	if c.pooled { // then it has kept none, and there is nothing that the mutex would guard
		c.pooled = false
		if c.mayNeedCalled() {
			c.called = callers.Taker()
		}
		return nil
	}
	if err := c.lockCall(); err != nil {
		c.leave()
		return driver.ErrBadConn
	}
	return c.guard(func() error {
		if c.drawn.Conn != nil {
			return c.drawn.Conn.Reset(ctx)
		}
		return nil
	})
}

// IsValid implements [driver.Validator]. database/sql asks when it takes the
// connection back into its pool: the moment at which the session ends.
func (c *conn) IsValid() (valid bool) {
	if err := c.lockReturn(); err != nil {
		c.late.valid = true
		c.noteGiven()
		c.leaveLate()
		return false
	}
	c.guard(func() error {
		c.called = callers.Unknown
		if c.keepRaw() {
			valid = c.drawn.Conn.Validate()
			c.noteKept()
			return nil
		}
		c.noteGiven()
		if c.late.any {
			c.endOpen()
		}
		c.endTransactions()
		c.giveBack()
		c.pooled = !c.spent && c.gone == inUse
		valid = c.pooled
		return nil
	})
	return valid
}

// Close implements [driver.Conn]. A connection that still has its server
// connection is closed because that one is bad.
func (c *conn) Close() error {
	defer c.raise()
	c.noteGiven()
	if err := c.lockCall(); err != nil {
		c.late.closed = true
		c.leaveLate()
		return nil
	}
	return c.guard(func() error {
		if c.pooled && !c.bound.hasEnded() { // whose handle takeBack closes
			c.db.outer.ClosedUnused(&c.backend.Database.FirstClosed)
		}
		c.close()
		return nil
	})
}

// CheckNamedValue implements [driver.NamedValueChecker]; server connections
// convert the arguments.
func (c *conn) CheckNamedValue(nv *driver.NamedValue) error { return c.checkArg(nv) }

// Prepare implements [driver.Conn].
func (c *conn) Prepare(query string) (driver.Stmt, error) {
	return c.PrepareContext(context.Background(), query)
}

// Begin implements [driver.Conn].
func (c *conn) Begin() (driver.Tx, error) {
	return c.BeginTx(context.Background(), driver.TxOptions{})
}
