package dblocker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/server"
)

// spillLimits are those for rows that need not make way.
func (c *handle) spillLimits() server.FillLimit {
	return server.FillLimit{Each: c.spillLimit, Total: c.spillTotal}
}

// mustSpill are those for rows without whose end the program cannot go on.
func (c *handle) mustSpill() server.FillLimit {
	return server.FillLimit{Each: c.spillLimit, Total: 1 << 62}
}

// fill reads on in the rows, as Fill does. Rows that have ended give up their locks. The caller has
// the connection, and the rows are open on it.
func (r *rows) fill(limit server.FillLimit, stop func() bool) server.FillEnd {
	end := r.Fill(limit, stop)
	if end == server.FillDone {
		r.tryFinish()
	}
	return end
}

// makeWay is fill for rows that are in somebody's way. They are counted before that one goes on.
func (r *rows) makeWay(limit server.FillLimit, stop func() bool) server.FillEnd {
	end := r.Fill(limit, stop)
	if end == server.FillDone {
		r.count()
		r.tryFinish()
	}
	return end
}

// tryFinish keeps a panic of the driver for the program's own Close.
func (r *rows) tryFinish() {
	returned := false
	defer func() {
		if !returned {
			r.RaiseAtClose(recover())
			if sc := r.conn.drawn.Conn; sc != nil {
				sc.Wake() // the lock that finish has given up may rest on it
				sc.Fail()
			}
		}
	}()
	r.finish()
	returned = true
}

// finish gives up what the rows hold, now that nothing more is to come from the server;
// but what WithMode has made exclusive lasts until they are closed.
func (r *rows) finish() {
	r.finished = true
	defer r.giveUp()
	if r.Failure() != nil || r.conn.backend.Gate == nil && r.settle != nil { // mattn's, when the context ends, still have the file locked
		r.shutNow()
	} else if r.conn.backend.Scope != nil { // what gives up the lock is sent on the connection, which go-sql-driver has for its rows until they are closed
		r.shutNow()
	}
	if settle := r.settle; settle != nil {
		r.settle = nil
		settle()
	}
}

func (r *rows) giveUp() {
	if r.keepsLock() {
		r.hold.Gate.Leave()
		return
	}
	r.unlock()
}

// keepsLock tells whether the program has asked for the exclusive lock by WithMode.
func (r *rows) keepsLock() bool { return r.asked == askedExclusive }

// spill is fill for rows that have to make way for a statement of the same connection, or
// of the same owner. Those that exceed the limit keep what they hold: what has been read is
// served first, and then the rest.
func (r *rows) spill(limit server.FillLimit, stop func() bool) error {
	if r.IsClosed() || !r.opened {
		return nil
	}
	switch r.makeWay(limit, stop) {
	case server.FillFull:
		return exceeded(limit)
	case server.FillStopped:
		return errInCall
	}
	return nil
}

// spillWithin is spill for a call with ctx that has the connection.
func (r *rows) spillWithin(ctx context.Context, limit server.FillLimit) error {
	err := r.spill(limit, func() bool { return ctx.Err() != nil })
	if err == errInCall {
		return ctx.Err()
	}
	return err
}

func exceeded(l server.FillLimit) error {
	return fmt.Errorf("%w: more than spill_limit=%d bytes, or spill_total=%d with those of others; read them to the end or close them first, or raise the limit", ErrSpillLimit, l.Each, l.Total)
}

// count counts the rows as spilled, once.
func (r *rows) count() {
	if !r.counted {
		r.counted = true
		r.conn.db.spills.Add(1)
		r.tellSpill()
	}
}

const (
	yieldTime    = time.Second      // how long a try to make way lasts at most; the lock table asks again
	yieldPause   = time.Millisecond // that the program is left alone with its rows when it has called
	longestPause = 32 * yieldPause  // while a call lasts
)

// Yield lets the rows make way: somebody has waited for them for long. They do while no
// call is running in them, and unless they are in a transaction.
func (r *rows) Yield() {
	if !r.yields.CompareAndSwap(false, true) {
		return // it does already
	}
	defer r.yields.Store(false)
	until := time.Now().Add(yieldTime)
	stop := func() bool { return r.conn.isWanted() || time.Now().After(until) }
	for pause := yieldPause; time.Now().Before(until); pause = min(2*pause, longestPause) {
		if r.conn.tryEnter() {
			pause = yieldPause
			done := r.yieldOnce(stop)
			r.conn.leaveFill()
			if done {
				return
			}
		}
		time.Sleep(pause)
	}
}

// yieldOnce reports whether there is nothing more to do for now.
func (r *rows) yieldOnce(stop func() bool) (done bool) {
	if !r.mayYield() {
		return true
	}
	return r.makeWay(r.conn.db.spillLimits(), stop) != server.FillStopped
}

// mayYield tells whether the rows may make way for others. The caller has the connection.
func (r *rows) mayYield() bool {
	c := r.conn
	return r.opened && !r.IsClosed() && !r.late && c.transactionOnServer() == nil && c.raw == nil && !r.keepsLock()
}

// How long a request that would be in a circle with others, and whose rows are too large to
// make way, or in a call, waits for that to change, or for the others' rows to make way; and
// how often it looks.
const (
	othersYield = 2*time.Second + yieldTime
	lookForThem = 20 * time.Millisecond
)

// takeBesideReaders goes on with take, which was refused with err since others, who read
// too, wait for rows of the owner. These are read into memory. If they are too large, the
// others' rows may still make way; if not, it cannot go on. c is the connection that take
// is for, or nil.
func takeBesideReaders(ctx context.Context, db *handle, c *conn, id locks.Identity, users []string, err error, take func() error) error {
	var w *rwlock.WaitError
	if id.Owner == nil || !id.Owner.HasRows() || errors.As(err, &w) && id.LockOwner().InLine(w.Blocker.Owner) {
		return err // or it has waited for itself
	}
	inTheWay := func(r *rows) bool { return slices.Contains(users, r.hold.User) }
	for until := time.Now().Add(min(othersYield, db.lockTimeout)); ; {
		spillErr := c.spillOwn(ctx, id.Owner, db.spillLimits(), inTheWay)
		tooLarge := errors.Is(spillErr, ErrSpillLimit)
		if spillErr != nil && !tooLarge && spillErr != errInCall {
			return spillErr
		}
		if err = take(); spillErr == nil || !errors.Is(err, rwlock.ErrDeadlock) {
			return err
		}
		if time.Now().After(until) {
			if tooLarge {
				return spillErr
			}
			return err
		}
		select {
		case <-time.After(lookForThem):
		case <-ctx.Done():
			return ctx.Err()
		case <-db.closed:
			return errClosed
		}
	}
}

// errInCall says that rows could not be spilled since a call of the program has their
// connection.
var errInCall = errors.New("the connection is in a call")

// spillOwn makes an owner give up what those of its open rows hold that are in the way of
// an operation of its on c, or of a section if c is nil, by reading the rest of them into
// memory. Rows on other connections are left alone while these are in a call, and errInCall
// tells of that. The operation does not wait long for rows whose driver takes its time.
func (c *conn) spillOwn(ctx context.Context, o *locks.Owner, limit server.FillLimit, inTheWay func(*rows) bool) error {
	var elsewhere []*rows
	for _, h := range o.RowsThat(func(h *locks.RowsHold) bool { return inTheWay(h.Lock.Work.(*rows)) }) {
		r := h.Lock.Work.(*rows)
		if c == nil || !c.hasOpen(r) {
			elsewhere = append(elsewhere, r)
		} else if err := r.spillWithin(ctx, limit); err != nil {
			return err
		}
	}
	results := make(chan error, len(elsewhere))
	for _, r := range elsewhere {
		go func() { results <- r.spillFromElsewhere(limit) }()
	}
	enough := time.NewTimer(yieldTime)
	defer enough.Stop()
	for range elsewhere {
		select {
		case err := <-results:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-enough.C:
			return errInCall
		}
	}
	return nil
}

// hasOpen tells whether the rows are open on the server connection of c, which c has.
func (c *conn) hasOpen(r *rows) bool {
	if sc := c.server(); sc != nil {
		return slices.Contains(openOn(sc), r)
	}
	return false
}

// spillFromElsewhere spills the rows unless a call has their connection.
func (r *rows) spillFromElsewhere(limit server.FillLimit) error {
	if !r.conn.tryEnter() {
		return errInCall
	}
	defer r.conn.leaveFill()
	return r.spill(limit, r.conn.isWanted)
}
