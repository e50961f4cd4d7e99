package dblocker

import (
	"context"
	"errors"
	"time"

	"github.com/calmdocs/dblocker/internal/callers"
	"github.com/calmdocs/dblocker/internal/combine"
	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// A request is what an operation would take by itself: a hold of that kind, in
// that mode, of its user's lock; and the passage of the gate.
type request struct {
	kind     rwlock.Kind
	mode     Mode
	session  bool // it concerns nothing but its session, and takes no user's lock
	asksGate gateNeed
	passage  gate.Passage

	// joins tells that it is for a statement in a transaction that was begun for nobody.
	joins bool

	// inside tells that it is in a section or a transaction, which others may wait for.
	inside bool

	whole *rwlock.WholeWait // that the one for it is a part of; nil if it is one by itself

	ride *combine.Ride // the statement, if another may run it and somebody is at the gate; else nil
}

// gateNeed says whether an operation asks anything of the gate.
type gateNeed int

const (
	unlessInside gateNeed = iota // unless it is inside a transaction, which has passed the gate
	atOnce                       // although it is, since that has not
	later                        // with its first statement: see txstart.go
)

// lock decides what an operation on c needs, and takes it. h becomes that hold,
// or stays idle if the operation needs none.
func (c *conn) lock(op *operation, h *locks.Hold, req request) error {
	byText := req.mode
	req.inside = op.section != nil || c.transaction != nil
	var err error
	if req.mode, err = op.mode.or(req.mode); err != nil {
		return err
	}
	s := op.section
	id, err := c.identify(op)
	switch {
	case err != nil:
		return err
	case req.session && op.mode != askedExclusive:
		return c.lockSession(op, h, req, byText, id)
	case c.transaction != nil:
		return c.transaction.lock(op, id)
	case s != nil:
		if err := c.awaitLost(op.ctx, s, id, req.mode); err != nil {
			return err
		}
		needs, err := c.enterSection(s, h, id)
		if err != nil {
			return err
		}
		err = c.lockOutside(op, h, req, needs, byText)
		if err == errRidden { // in the section, which it leaves when it has arrived
			h.Entered(id, nil)
			return err
		}
		return h.Entered(id, err)
	}
	return c.lockOutside(op, h, req, id, byText)
}

// awaitLost waits, on behalf of an operation of the user id in the section, until the server
// has ended the section's earlier ones that have lost their connections.
func (c *conn) awaitLost(ctx context.Context, in *section, id locks.Identity, mode Mode) error {
	lost := in.locks.Barriers(c.backend.Users, id.User)
	if len(lost) > 0 && c.busy == idle {
		c.giveBack() // as whoever waits for a lock
	}
	for _, b := range lost {
		h := rwlock.Hold{Owner: id.LockOwner(), With: c.turnLink(id.LockOwner()), Label: c.db.label(ctx)}
		if err := b.Await(ctx, rwlock.Mode(mode), &h, c.wait()); err != nil {
			c.db.tellDeadlock(err)
			return c.explainClosed(lockError(err, id))
		}
	}
	return nil
}

// enterSection is for an operation inside a section. It returns whose lock the operation
// needs besides: nobody's, if the section has that of the user id. Once it has that,
// successfully or not, entered must be called.
func (c *conn) enterSection(s *section, h *locks.Hold, id locks.Identity) (needs locks.Identity, err error) {
	if h.Enter(&s.locks, &c.resident) != nil {
		return id, c.reason(&s.locks)
	}
	if _, covered := s.locks.Covers(c.backend.Users, id.User); covered {
		return locks.Identity{Owner: id.Owner}, nil
	}
	return id, nil
}

// lockOutside takes the lock of the user id, if there is one, and what the gate asks of
// an operation whose text says byText.
func (c *conn) lockOutside(op *operation, h *locks.Hold, req request, id locks.Identity, byText Mode) error {
	// WithMode can not say of a statement that writes that SQLite lets it in.
	if err := c.gateRequest(op, h, &req, max(byText, req.mode)); err != nil {
		return err
	}
	if id.User == "" && req.passage.IsFree() {
		return nil
	}
	id.Owner.NoteWork()
	if c.mayLease(req, id) {
		req.whole = new(rwlock.WholeWait)
		if leased, err := c.lockWithLease(op, h, req, id); leased || err != nil {
			req.whole.End(err)
			return err
		}
	}
	req.passage.Await()
	acquired := false
	defer func() { req.passage.End(&h.Gate, acquired) }()
	err := c.acquire(op.ctx, h, req, id)
	acquired = err == nil
	return err
}

// acquire takes what req says of the lock of the user id, if there is one, and of
// the gate into h. Before it waits, it lets go what would be in the way of others
// meanwhile:
//
//   - A connection that only prepared a statement is given back. Else all connections
//     could be held by those who wait for a lock.
//   - At the gate, whose holds know no owner, its own rows are in its way: they are
//     spilled.
//
// A write of an owner that still reads waits for others who read. If these wait for it,
// the rows of one are spilled, see takeBesideReaders.
func (c *conn) acquire(ctx context.Context, h *locks.Hold, req request, id locks.Identity) error {
	c.describe(ctx, h, req, id)
	if c.reaching != nil {
		c.reaching.inAll = 0
	}
	if c.acquireFree(ctx, h, req) {
		req.whole.End(nil)
		c.db.tellUpgrade(ctx, h)
		return nil
	}
	if done, err := c.rideListed(ctx, h, req, id); done {
		return err
	}
	if c.backend.Scope != nil {
		defer c.waited(time.Now())
	}
	if req.whole == nil && req.mode == Exclusive && id.Owner.HasRows() {
		req.whole = new(rwlock.WholeWait)
	}
	err := c.acquireWaiting(ctx, h, req, id)
	if err == errRidden {
		return err
	}
	if err == nil {
		c.db.tellUpgrade(ctx, h)
	}
	return c.lockError(err, id)
}

// acquireWaiting is acquire where it may have to wait. It ends the whole wait.
func (c *conn) acquireWaiting(ctx context.Context, h *locks.Hold, req request, id locks.Identity) (err error) {
	defer func() { req.whole.End(err) }() // also when a driver panics, whose rows make way
	if err := c.spillAtGate(ctx, req, id); err != nil {
		return err
	}
	if c.wastesConn() {
		if err := c.take(ctx, h, req, rwlock.Wait{}); !mustWait(err) {
			return err
		}
		c.giveBack()
	}
	take := func() error {
		if req.ride != nil && c.backend.Gate.Writers() > 1 {
			return c.takeOrRide(ctx, h, req, id)
		}
		return c.take(ctx, h, req, c.waitFor(req))
	}
	err = take()
	if req.mode == Exclusive && errors.Is(err, rwlock.ErrDeadlock) {
		err = takeBesideReaders(ctx, c.db, c, id, []string{id.User}, err, take)
	}
	return err
}

// describe says, for the lock table, whose the holds are that an operation on c asks for.
func (c *conn) describe(ctx context.Context, h *locks.Hold, req request, id locks.Identity) {
	label := c.db.label(ctx)
	if c.db.trace {
		label = c.db.sited(ctx)
	}
	h.Describe(id, c.ownerFor(id), req.kind, label, &c.resident)
	h.Lock.With = c.turnLink(h.Lock.Owner)
	h.Gate.Hold.With = h.Lock.With
}

// wastesConn tells whether c has a connection that others could use while it waits for a lock.
func (c *conn) wastesConn() bool {
	return c.drawn.Conn != nil && (c.busy == idle && c.transaction == nil || c.transaction.wastesConn())
}

// mustWait tells of the error of a try whether it is for want of a wait.
func mustWait(err error) bool {
	return errors.Is(err, rwlock.ErrTimeout) || errors.Is(err, rwlock.ErrDeadlock)
}

// acquireFree acquires what req says into h if that is a user's lock only, and free: the usual
// case, for which there is nothing to be made ready for a wait.
func (c *conn) acquireFree(ctx context.Context, h *locks.Hold, req request) bool {
	return h.User != "" && req.passage.IsFree() && ctx.Err() == nil &&
		c.backend.Users.TryAcquire(rwlock.Mode(req.mode), h) && (!c.backend.Reaches() || c.reachFree(h))
}

// waitFor is how an operation on c waits for what req asks.
func (c *conn) waitFor(req request) rwlock.Wait {
	w := c.wait()
	w.Whole = req.whole
	// What SQLite would let wait waits at the gate instead.
	w.Hopeless = locks.Hopeless(req.joins && c.backend.Gate == nil)
	return w
}

// take acquires what req says into h.
func (c *conn) take(ctx context.Context, h *locks.Hold, req request, w rwlock.Wait) error {
	err := c.takeHere(ctx, h, req, w)
	if err == nil && h.User != "" && c.backend.Reaches() {
		err = c.takeAmong(ctx, h, req, w)
	}
	return err
}

// takeHere acquires it of this process, in one step.
func (c *conn) takeHere(ctx context.Context, h *locks.Hold, req request, w rwlock.Wait) error {
	users, mode := c.backend.Users, rwlock.Mode(req.mode)
	if req.passage.IsFree() {
		return users.Acquire(ctx, h.User, mode, h, nil, w)
	}
	if h.User == "" {
		return h.TakeGate(ctx, req.passage, w)
	}
	if req.passage.More != nil {
		return req.passage.NoteTurn(users.AcquireBeside(ctx, mode, h, req.passage.Requests(&h.Gate), w))
	}
	gate := req.passage.Request(&h.Gate)
	return req.passage.NoteTurn(users.Acquire(ctx, h.User, mode, h, &gate, w))
}

// ownerFor returns the owner, for the lock table, of what an operation on c has and waits for on
// behalf of id. It is nil if there is none.
func (c *conn) ownerFor(id locks.Identity) *rwlock.Owner {
	if owner := id.LockOwner(); owner != nil {
		return owner
	}
	return c.selfOwner()
}

// selfOwner returns self if it is used, which is so on engines with a gate. (With others, a
// lost session may keep a lock for longer than c is of use to one caller.)
func (c *conn) selfOwner() *rwlock.Owner {
	if c.backend.Gate == nil {
		return nil
	}
	return &c.self
}

// identify returns the user of an operation on c, or none as far as the handle
// allows that. In a section, or in a transaction that was begun for a user, it need
// not be said again.
func (c *conn) identify(op *operation) (locks.Identity, error) {
	if c.bound != nil {
		return op.id, nil
	}
	id := op.id
	if id.Suspect {
		c.db.warnOfID(id.User)
	}
	if op.tagged || id.Nobody || op.section != nil || c.transaction != nil && c.transaction.tagged {
		return id, id.Err
	}
	c.db.noteBare()
	switch c.db.untagged {
	case ErrorUntagged:
		return locks.Identity{}, errNoUserAt(callers.Site())
	case WarnUntagged:
		c.db.warnUntagged()
	}
	return locks.Identity{}, nil
}

// modeOf returns the mode of a Query: shared only if its text is known to read.
func modeOf(st sqltext.Statement) Mode {
	if st.Kind == sqltext.Read {
		return Shared
	}
	return Exclusive
}

// onlyReads tells whether a transaction is inside a shared section of its user.
func (c *conn) onlyReads(op *operation) bool {
	s := op.section
	if s == nil {
		return false
	}
	id, _ := c.identify(op)
	mode, covered := s.locks.Covers(c.backend.Users, id.User)
	return covered && mode == rwlock.Shared
}

// lockSession is lock for a statement that concerns nothing but its session: whoever locks by
// hand must come to unlock. In a transaction and in a section it just runs, and of the
// gate it takes what any other would.
func (c *conn) lockSession(op *operation, h *locks.Hold, req request, byText Mode, id locks.Identity) error {
	if c.transaction != nil {
		return c.transaction.ended
	}
	nobody := locks.Identity{Owner: id.Owner}
	if op.section == nil {
		return c.lockOutside(op, h, req, nobody, byText)
	}
	if _, err := c.enterSection(op.section, h, id); err != nil {
		return err
	}
	return h.Entered(id, c.lockOutside(op, h, req, nobody, byText))
}
