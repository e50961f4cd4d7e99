package dblocker

import (
	"context"
	"database/sql/driver"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/server"
)

// A ride is an Exec that waits at the gate of a SQLite database, and that whoever has the gate may
// run, on its own connection: see combine.go. Its caller may be gone before that is done. So
// what it needs is its own, and not the client connection's or the caller's.
//
// Until it is taken it is the caller's. From then on it is that of who has the gate, until ended is
// set; then it is the caller's again, if that has not left.
type ride struct {
	pool *pool
	hold locks.Hold
	ctx  context.Context // of the call, without its end
	call server.Call

	res driver.Result
	err error // of the statement, or errAlone

	mu    sync.Mutex // guards what follows
	ended bool
	left  bool // by its caller; then hold has the caller's place in a section too
}

// errRidden says that another has run the statement; errAlone that it is to run by itself.
var (
	errRidden = errors.New("the statement was run by another")
	errAlone  = errors.New("the statement is to run by itself")
)

// mayRide tells whether any connection of the pool could run the statement for the operation, in
// one transaction with those of others, as far as that is known before its call is looked at.
func (c *conn) mayRide(op *operation, adm *admission) bool {
	return adm.Statement.Combines && !adm.alone && c.db.combine && op.called == calledHandle && c.pool.gate != nil && !c.pool.readOnly &&
		c.scope == nil && c.drawn.Conn == nil && op.pin == nil && !op.outside && op.mode == askedNone &&
		c.pool.attached.Gates() == nil && c.statementTimeout(op) == 0 &&
		!op.id.Owner.HasPending() && !op.id.Owner.HasRows()
}

// newRide returns one for a statement that may ride, unless nobody is at the gate, or its arguments cannot be
// copied: then it returns nil.
func (c *conn) newRide(ctx context.Context, adm *admission) *ride {
	if c.pool.gate.Writers() == 0 {
		return nil
	}
	r := &ride{pool: c.pool, ctx: context.WithoutCancel(ctx)}
	if !r.load(adm) {
		return nil
	}
	return r
}

// takeOrRide is take for a statement that may ride; then its error is errRidden.
func (c *conn) takeOrRide(ctx context.Context, h *locks.Hold, req request, id locks.Identity) error {
	r := req.ride
	c.describe(&r.hold, req, id)
	r.hold.Gate.Come(c.pool.gate)
	w := c.waitFor(req)
	w.Ride = r
	err := c.take(ctx, &r.hold, req, w)
	switch err {
	case nil:
		r.hold.MoveTo(h, &c.resident)
	case rwlock.ErrTaken:
		return errRidden
	}
	return err
}

// load takes the statement with copies of its arguments, if they are values that can be copied.
func (r *ride) load(adm *admission) bool {
	r.call = server.Call{Statement: adm.Statement, Query: adm.Query, Args: slices.Clone(adm.Args)}
	for i := range r.call.Args {
		switch v := r.call.Args[i].Value.(type) {
		case nil, bool, int, int8, int16, int32, int64, uint, uint8, uint16, uint32, float32, float64, string, time.Time:
		case []byte:
			r.call.Args[i].Value = slices.Clone(v)
		default:
			return false
		}
	}
	return true
}

// arrive returns what came of a ride, which h was to have the locks for. If the caller has left before
// that was known, the statement goes on, under its lock, and inside its section.
func (c *conn) arrive(ctx context.Context, h *locks.Hold, r *ride) (driver.Result, error) {
	if r.leave(h) {
		c.spent = true
		return nil, ctx.Err()
	}
	c.spent = r.err == nil
	return r.res, r.err
}

// leave is for a caller who does not wait any longer. It reports false if the ride has ended.
func (r *ride) leave(h *locks.Hold) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return false
	}
	r.left = true
	h.MoveTo(&r.hold, nil)
	return true
}

// end ends it, and reports whether its caller has left. Then hold is to be released.
func (r *ride) end() (left bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	return r.left
}

// noteEntry notes, for an Exec or BeginTx that finds others at the gate, what the program has called. On a sql.DB,
// or a statement prepared on one, any connection will do. On a sql.Conn the program may ask next what its
// statement has left on the connection, as last_insert_rowid does. database/sql does not
// tell, but its functions on the stack do.
func (c *conn) noteEntry(op *operation, s *stmt) {
	if g := c.pool.gate; g == nil || !g.IsBusy() || s != nil && s.called != calledHandle {
		return
	}
	op.called = entryPoint()
}

// called is what of database/sql the program has called.
type called uint8

const (
	calledUnknown called = iota
	calledHandle         // a sql.DB, or a sql.Stmt
	calledElse           // a sql.Conn, a sql.Tx, or nothing of database/sql
)

// entryPoint looks for it on the stack.
func entryPoint() called {
	var pcs [16]uintptr
	for _, pc := range pcs[:runtime.Callers(3, pcs[:])] {
		known, ok := calledAt.Load(pc)
		if !ok {
			known = calledIn(pc)
			calledAt.Store(pc, known)
		}
		if known != calledUnknown {
			return known.(called)
		}
	}
	return calledElse
}

// calledAt remembers what is at a program counter: there are a few of them, in database/sql and in what the
// program has around it.
var calledAt sync.Map

// calledIn looks at the functions, some of them inlined, at a program counter.
func calledIn(pc uintptr) called {
	frames := runtime.CallersFrames([]uintptr{pc})
	for {
		frame, more := frames.Next()
		switch name, ok := strings.CutPrefix(frame.Function, "database/sql.(*"); {
		case !ok:
		case strings.HasPrefix(name, "DB).Exec"), strings.HasPrefix(name, "DB).Prepare"), strings.HasPrefix(name, "DB).BeginTx"), strings.HasPrefix(name, "Stmt).Exec"):
			return calledHandle
		case strings.HasPrefix(name, "Conn)."), strings.HasPrefix(name, "Tx)."):
			return calledElse
		}
		if !more {
			return calledUnknown
		}
	}
}
