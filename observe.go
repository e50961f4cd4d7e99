package dblocker

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/calmdocs/dblocker/internal/backend"
	"github.com/calmdocs/dblocker/internal/callers"
	"github.com/calmdocs/dblocker/internal/combine"
	"github.com/calmdocs/dblocker/internal/events"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/lost"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// Who tells what of a handle, and how:
//
//   - Whatever happens is told by the function tell, which puts it in a queue, calls nothing and waits for nobody. So it may be
//     called anywhere, with any mutex locked.
//   - The function of the program is called by the goroutine of its queue, and by nobody else: with no mutex, no lock and no
//     connection of ours.
//   - On a handle that nobody observes, observers is nil, and so is told: then no Event is made, and no label.

// observers are the functions that observe a handle. They never change once it is open.
type observers []*observer

// An observer is a function of the program, given to Observe. Each handle that it is given to has a copy.
type observer struct {
	queue  *events.Queue[Event]
	also   []EventKind
	logger *atomic.Pointer[slog.Logger] // of the last handle that it was given to
	engine string                       // of the handle, once that is open
}

func newObserver(f func(Event), also []EventKind) *observer {
	o := &observer{also: slices.Clone(also), logger: new(atomic.Pointer[slog.Logger])}
	o.queue = events.New(func(e Event, dropped int64) {
		e.Dropped = dropped
		e.name()
		f(e)
	}, func(p any) {
		o.logger.Load().Error("dblocker: the function given to Observe has panicked; it is called again with the next event, and further panics are not logged", "panic", p)
	}, func() {
		o.logger.Load().Warn("dblocker: the function given to Observe does not keep up, or does not return: events are dropped, here and from now on, whenever so many wait for it; Dropped of the next event says how many; this is logged once", "waiting", events.Most)
	})
	return o
}

// everyCall are the kinds that come with every call.
var everyCall = []EventKind{EventHoldEnded, EventOperationEnded}

var eventKinds = append([]EventKind{EventWaitBegan, EventWaitEnded, EventHoldLong, EventDeadlock, EventUpgrade, EventSpill, EventBatch, EventSync, EventSessionLost, EventSessionEnded, EventLockLost,
	EventConnOpened, EventConnClosed, EventDatabaseOpened, EventDatabaseEvicted}, everyCall...)

func (k EventKind) isKnown() bool { return slices.Contains(eventKinds, k) }

func unknownKind(k EventKind) error {
	return fmt.Errorf("dblocker: Observe: unknown kind of event %q; the kinds that have to be named are %v", k, everyCall)
}

// wants tells whether anybody is to be told of events of the kind, of those that come with every call.
func (os observers) wants(k EventKind) bool {
	return slices.ContainsFunc(os, func(o *observer) bool { return slices.Contains(o.also, k) })
}

// tell tells all who want to know.
func (os observers) tell(e Event) {
	if os == nil {
		return
	}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	frequent := slices.Contains(everyCall, e.Kind)
	for _, o := range os {
		if !frequent || slices.Contains(o.also, e.Kind) {
			e.Engine = o.engine
			o.queue.Put(e)
		}
	}
}

// observe makes ready what the handle tells. It is called once, when its options are known.
func (c *handle) observe() {
	if c.observers == nil {
		return
	}
	c.observers = slices.Clone(c.observers)
	for i, o := range c.observers {
		o.logger.Store(c.logger)
		here := *o
		here.engine = c.engine.Name
		c.observers[i] = &here
	}
	c.tellsCalls = c.observers.wants(EventOperationEnded)
	c.told = &rwlock.Told{Wait: c.tellWait}
	if c.observers.wants(EventHoldEnded) {
		c.told.Hold = c.tellHold
	}
}

// label returns that of the holds of a call with ctx; nil if nobody is told.
func (c *handle) label(ctx context.Context) *rwlock.Label {
	if c.told == nil {
		return nil
	}
	return &rwlock.Label{Ctx: ctx, Told: c.told}
}

// sited is label with the place in the program.
func (c *handle) sited(ctx context.Context) *rwlock.Label {
	l := c.label(ctx)
	if l == nil {
		l = new(rwlock.Label)
	}
	l.Tag = callers.Site()
	return l
}

// eventOf returns an event about a hold, or a wait.
func eventOf(k EventKind, i rwlock.Info) Event {
	h := holdInfo(i)
	return Event{Kind: k, Context: i.Ctx, User: h.User, What: h.What, Mode: h.Mode, Held: h.Kind, Tag: h.Tag}
}

// blockedBy adds what was in the way.
func (e *Event) blockedBy(i rwlock.Info) {
	if i.Key == "" && i.Kind == 0 && i.Owner == nil && i.Work == nil && i.For == 0 {
		return
	}
	h := holdInfo(i)
	e.Blocker, e.BlockerContext = &h, i.Ctx
}

func (c *handle) tellWait(w rwlock.WaitEvent) {
	e := eventOf(EventWaitBegan, w.Wait)
	e.Wait = w.Nth
	if w.Ended {
		e.Kind, e.Duration, e.Outcome, e.Err = EventWaitEnded, w.Waited, outcomeOf(w.Err), w.Err
	}
	e.blockedBy(w.Blocker)
	c.observers.tell(e)
}

// tellListed tells of a statement that has waited since it came for one who is at work for others, and not in the queue.
func (c *handle) tellListed(ctx context.Context, r *combine.Ride, came time.Time) {
	if c.observers == nil {
		return
	}
	e := Event{Kind: EventWaitBegan, Time: came, Context: ctx, User: r.Hold.User, What: "gate", Mode: Exclusive, Held: rwlock.Leaf.String(), Wait: r.Number()}
	c.observers.tell(e)
	e.Kind, e.Time, e.Duration, e.Outcome = EventWaitEnded, time.Now(), time.Since(came), OutcomeGranted
	c.observers.tell(e)
}

func outcomeOf(err error) Outcome {
	switch {
	case err == nil:
		return OutcomeGranted
	case errors.Is(err, rwlock.ErrTimeout):
		return OutcomeTimeout
	case errors.Is(err, rwlock.ErrDeadlock):
		return OutcomeDeadlock
	case errors.Is(err, rwlock.ErrClosed):
		return OutcomeClosed
	}
	return OutcomeContext
}

func (c *handle) tellHold(i rwlock.Info) {
	e := eventOf(EventHoldEnded, i)
	e.Duration = i.For
	c.observers.tell(e)
}

// tellLong tells of a wait that has lasted for five seconds what is in the way.
func (c *handle) tellLong(s rwlock.SlowWait) {
	if c.observers == nil {
		return
	}
	e := eventOf(EventHoldLong, s.Blocker)
	e.Duration, e.Waiting = s.Blocker.For, s.Waiting
	c.observers.tell(e)
}

// tellHeldAmong tells of another process that has what somebody has waited for for five seconds; it may be nil.
func (c *handle) tellHeldAmong(w slowWait, waiting int, p *ProcessInfo) {
	e := Event{Kind: EventHoldLong, What: "lock", User: w.lock().user, Mode: Exclusive, Held: "process", Duration: time.Since(w.since), Waiting: waiting}
	e.Blocker = &HoldInfo{What: e.What, User: e.User, Mode: e.Mode, Kind: e.Held, Process: p}
	c.observers.tell(e)
}

// tellDeadlock tells of a wait that was refused, if that was for a deadlock.
func (c *handle) tellDeadlock(err error) {
	var w *rwlock.WaitError
	if c.observers == nil || !errors.As(err, &w) || w.Err != rwlock.ErrDeadlock {
		return
	}
	i := rwlock.Info{Key: w.Key, Mode: w.Mode, Form: w.Form, Ctx: w.Ctx}
	if len(w.Cycle) > 0 {
		i = w.Cycle[0]
	}
	e := eventOf(EventDeadlock, i)
	e.Duration, e.Err = w.Waited, ErrDeadlock
	e.blockedBy(w.Blocker)
	e.Circle = describeCircle(w.Cycle)
	c.observers.tell(e)
}

// describeCircle describes a circle. Those of one request have the same number there.
func describeCircle(cycle []rwlock.Info) (circle []HoldInfo) {
	requests := rwlock.Outermost(cycle)
	for _, i := range cycle {
		h := holdInfo(i)
		h.Request = numberOf(requests.Of(i.Owner))
		circle = append(circle, h)
	}
	return circle
}

// tellUpgrade tells of a hold that was granted beside others of its owner, if these only read.
func (c *handle) tellUpgrade(ctx context.Context, h *locks.Hold) {
	if c.observers == nil || h.Owner == nil || !h.Lock.IsUpgrade() {
		return
	}
	c.observers.tell(Event{Kind: EventUpgrade, Context: ctx, User: h.User, What: "lock", Mode: Exclusive, Held: h.Lock.Kind.String(), Tag: h.Lock.Tag()})
}

func (r *rows) tellSpill() {
	db := r.conn.db
	if db.observers == nil {
		return
	}
	e := Event{Kind: EventSpill, User: r.hold.User, Bytes: r.InMemory()}
	if w := r.hold.Lock.Label; w != nil {
		e.Context = w.Ctx
	}
	db.observers.tell(e)
}

// toldServers is forServers, with what server connections tell.
func (c *Connector) toldServers() server.Config {
	cfg := c.forServers()
	if c.observers == nil {
		return cfg
	}
	cfg.Opened = func(took time.Duration, err error) {
		c.observers.tell(Event{Kind: EventConnOpened, Duration: took, Err: err})
	}
	cfg.Closed = func(age time.Duration) { c.observers.tell(Event{Kind: EventConnClosed, Duration: age}) }
	return cfg
}

// observeBackend makes ready what is told of what the handle has open.
func (c *Connector) observeBackend(b *backend.Backend) {
	if c.observers == nil {
		return
	}
	b.Combining.ToldBatch = func(calls int, took time.Duration) {
		c.observers.tell(Event{Kind: EventBatch, Count: calls, Duration: took})
	}
	b.Combining.ToldSync = func(calls int, took time.Duration, err error) {
		c.observers.tell(Event{Kind: EventSync, Count: calls, Duration: took, Err: err})
	}
	if b.Lost != nil {
		b.Lost.Told = c.tellLost
	}
}

func (c *handle) tellLost(s lost.Event) {
	e := Event{Kind: EventSessionLost, Context: s.Ctx, User: s.User, What: "lock", Held: s.Kind.String()}
	if s.Ended {
		e.Kind, e.Duration, e.Outcome = EventSessionEnded, s.For, OutcomeGranted
		if s.GaveUp {
			e.Outcome = OutcomeTimeout
		}
	}
	c.observers.tell(e)
}

// tellLockLost tells of what has lost its lock among processes.
func (os observers) tellLockLost(ctx context.Context, user string, kind rwlock.Kind) {
	os.tell(Event{Kind: EventLockLost, Context: ctx, User: user, What: "process", Held: kind.String(), Err: ErrLockLost})
}

// tellUnder tells of a statement that ran under a lock which was lost meanwhile, if that is the error.
func (c *conn) tellUnder(ctx context.Context, err error) error {
	if err != nil && c.db.observers != nil && errors.Is(err, ErrLockLost) && !errors.Is(err, errEndedBeside) {
		id, _ := identityFrom(ctx)
		c.db.observers.tellLockLost(ctx, id.User, rwlock.Leaf)
	}
	return err
}

// execTold is execOn, and tells of it.
func (c *conn) execTold(ctx context.Context, sc *server.Conn, s *stmt, adm *admission) (driver.Result, error) {
	if !c.db.tellsCalls {
		return s.execOn(ctx, sc, &adm.Call)
	}
	began := time.Now()
	res, err := s.execOn(ctx, sc, &adm.Call)
	c.tellOperation(ctx, c.leaf.User, adm.Statement.Verb, began, err)
	return res, err
}

// toldCall makes a call at the server, and tells of it.
func (c *conn) toldCall(ctx context.Context, user, operation string, call func() error) error {
	began := time.Now()
	err := call()
	c.tellOperation(ctx, user, operation, began, err)
	return err
}

// tellOperation tells of a call at the server that has ended, of the user whose lock it has taken; "" if it has taken none.
func (c *conn) tellOperation(ctx context.Context, user, operation string, began time.Time, err error) {
	c.tellTook(ctx, user, operation, time.Since(began), err)
}

func (c *conn) tellTook(ctx context.Context, user, operation string, took time.Duration, err error) {
	if err == driver.ErrSkip { // nothing was done yet
		return
	}
	if t := c.transaction; user == "" && t != nil {
		user = t.hold.User
	}
	if user == "" {
		id, _ := identityFrom(ctx)
		user = id.User
	}
	c.db.observers.tell(Event{Kind: EventOperationEnded, Context: ctx, User: user, Operation: operation, Duration: took, Err: err})
}

// endVerb is what ends a transaction.
func endVerb(k sqltext.Kind) string {
	if k == sqltext.Commit {
		return "COMMIT"
	}
	return "ROLLBACK"
}
