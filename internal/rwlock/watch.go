package rwlock

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// A Yielder is a Hold.Work that can make way: it may end the hold before the program does.
type Yielder interface {
	// Yield is called when a request has waited a second for the hold. It may take as
	// long as it likes, and may leave the hold as it is: then it is called again a
	// second after it has returned, as long as the hold is in the way. Of the holds
	// that share a limited lock, no more are asked than there are requests that wait.
	//
	// It is called on a goroutine of its own, with no mutex locked, and not while
	// another call for the same hold of the lock runs. It may come too late, when the
	// hold has ended or is another already. It must not panic.
	Yield()
}

// A SlowWait tells of a wait that has lasted for five seconds. Of the waits for one lock,
// one in five seconds is told of, for all that have lasted so long by then, and each once.
type SlowWait struct {
	Key     string
	Mode    Mode
	Waited  time.Duration
	Blocker Info // as WaitError.Blocker
	Waiting int  // how many wait for the lock, this one included
}

const (
	yieldAfter = time.Second
	slowAfter  = 5 * time.Second
)

// A watch looks after those who wait for the locks of a shard: one timer for all of them.
// It runs while somebody waits, and up to a second longer, so that a lock that is waited
// for again and again costs nothing but the first time. It is guarded by the shard's mutex.
type watch struct {
	shard   *shard // set by the first wait, then never changed: it is read without the mutex
	running bool   // a timer is set, which calls patrol
	locks   []*Lock

	// asked are the holds that a Yielder was asked for. told has when a wait for the lock
	// was told of.
	asked map[*Hold]*asked
	told  map[*Lock]stamp
}

// asked says when a Yielder has returned; zero while it is at work.
type asked struct{ returned stamp }

// add begins to watch a lock, for which somebody is about to wait.
func (w *watch) add(l *Lock) {
	l.watched = true
	w.locks = append(w.locks, l)
	if w.shard == nil {
		w.shard = l.shard
	}
	if !w.running {
		w.running = true
		w.schedule(yieldAfter)
	}
}

// schedule sets a new timer each time: to set one again that belongs to another bubble of
// testing/synctest would be an error.
func (w *watch) schedule(in time.Duration) { time.AfterFunc(in, w.patrol) }

// A round is one look of a watch at its locks.
type round struct {
	*watch
	clock clock
	next  stamp // when there may be something to do again

	yields []*Hold
	slow   []func()
}

// shortestRound keeps the rounds from following each other too closely where many wait.
const shortestRound = 50 * time.Millisecond

// patrol is one round, with what follows from it.
func (w *watch) patrol() {
	w.shard.mu.Lock()
	r := &round{watch: w, clock: readClock()}
	r.next = r.clock.stamp + stamp(yieldAfter)
	w.locks = slices.DeleteFunc(w.locks, r.visit)
	for _, h := range r.yields {
		w.ask(h)
	}
	w.running = len(w.locks) > 0
	w.forget()
	if w.running {
		w.schedule(max(shortestRound, r.next.since(r.clock.stamp)))
	} else {
		w.locks = nil
	}
	w.shard.mu.Unlock()
	for _, tell := range r.slow {
		tell()
	}
}

// ask has a hold make way.
func (w *watch) ask(h *Hold) {
	a := new(asked)
	if w.asked == nil {
		w.asked = make(map[*Hold]*asked)
	}
	w.asked[h] = a
	y := h.Work.(Yielder)
	go func() {
		defer func() { // also when it ends the goroutine
			w.shard.mu.Lock()
			defer w.shard.mu.Unlock()
			a.returned = now()
			if !w.running {
				delete(w.asked, h)
			}
		}()
		y.Yield()
	}()
}

// forget drops the Yielders that are not at work, of holds that are no longer here.
func (w *watch) forget() {
	for h, a := range w.asked {
		if l := h.lock.Load(); a.returned != 0 && (!w.running || l == nil || l.shard != w.shard) {
			delete(w.asked, h)
		}
	}
}

// visit looks at one lock, and reports whether nobody waits for it any more.
func (r *round) visit(l *Lock) (done bool) {
	if !l.awaited() {
		l.watched = false
		delete(r.told, l)
		return true
	}
	r.yield(l)
	r.tell(l)
	return false
}

// at notes that there may be something to do at a time, and reports whether that has come.
func (r *round) at(s stamp) bool {
	if s <= r.clock.stamp {
		return true
	}
	r.next = min(r.next, s)
	return false
}

// yield asks the holders to make way that are in the way of those at the head of the
// queue. Who is behind them waits for them, and then for others perhaps.
func (r *round) yield(l *Lock) {
	if s := l.shard.slots; s != nil {
		r.yieldTo(l, s.first())
		return
	}
	for h := l.queue.head(); h != nil; h = h.next {
		if h.wait.waitsElsewhere(l) {
			continue
		}
		r.yieldTo(l, h)
		if !h.ahead {
			return
		}
	}
}

func (r *round) yieldTo(l *Lock, h *Hold) {
	var inTheWay []*Hold
	for o := l.holders.first; o != nil; o = o.next {
		if _, can := o.Work.(Yielder); can && (l.full() || l.conflict(h, o)) && r.mayAsk(h, o) {
			inTheWay = append(inTheWay, o)
		}
	}
	if waiting := l.waiters(); l.full() && len(inTheWay) > waiting {
		slices.SortStableFunc(inTheWay, func(a, b *Hold) int { return cmp.Compare(r.lastAsked(a), r.lastAsked(b)) })
		inTheWay = inTheWay[:waiting]
	}
	r.yields = append(r.yields, inTheWay...)
}

// mayAsk reports whether o has kept h waiting for so long that it is to be asked.
func (r *round) mayAsk(h, o *Hold) bool {
	a := r.asked[o]
	switch {
	case !r.at(max(o.since, h.since) + stamp(yieldAfter)):
		return false
	case a == nil:
		return true
	case a.returned == 0:
		return false
	default:
		return r.at(a.returned + stamp(yieldAfter))
	}
}

// lastAsked returns when the hold last declined to make way, which is before everything if
// it was never asked.
func (w *watch) lastAsked(h *Hold) stamp {
	if a := w.asked[h]; a != nil {
		return a.returned
	}
	return math.MinInt64
}

// tell tells of the oldest of the waits for l that nobody was told of, if it has lasted
// for long enough. Those for several locks are told of where something is in their way.
func (r *round) tell(l *Lock) {
	last, before := r.told[l]
	if before && !r.at(last+stamp(slowAfter)) {
		return
	}
	var oldest *Hold
	l.eachWaiting(func(h *Hold) {
		w := h.wait
		if w.slow == nil || w.told.Load() || !r.at(w.since+stamp(slowAfter)) || w.several() && l.obstacle(h) == nil {
			return
		}
		if w.told.CompareAndSwap(false, true) && (oldest == nil || h.since < oldest.since) {
			oldest = h
		}
	})
	if oldest == nil {
		return
	}
	if r.told == nil {
		r.told = make(map[*Lock]stamp)
	}
	r.told[l] = r.clock.stamp
	what := SlowWait{
		Key:     l.name,
		Mode:    oldest.mode,
		Waited:  r.clock.stamp.since(oldest.since),
		Blocker: l.obstacle(oldest).info(r.clock),
		Waiting: l.waiters(),
	}
	tell := oldest.wait.slow
	r.slow = append(r.slow, func() { tell(what) })
}
