package tenants

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// A Database is what is opened for users.
type Database interface {
	// Close closes it when it has no users.
	Close() error

	// Refuse lets nobody do any more with it while it has users.
	Refuse()
}

// A Set has databases that are open, each by its key, as long as they are in use and for some time more. Of those
// that nobody uses the longest unused goes first. To open one, and to close one, keeps nobody waiting but who
// waits for that one, or for a place.
type Set[K comparable, D Database] struct {
	cfg     Limits
	places  *rwlock.Lock // one for each database that may be open; nil: no limit
	contain func(func()) // calls what closes a database, on a goroutine of the Set, where a panic would end the program

	mu     sync.Mutex // guards what follows, and the fields of the entries that say so; nothing is opened or closed under it
	byKey  map[K]*Entry[K, D]
	unused list[K, D] // of byKey, the longest unused first

	wanting int                   // so many wait for a place
	hurried bool                  // somebody has, since the last tick
	placed  int                   // so many have one
	waiters map[*rwlock.Owner]int // the owners of those, and of who waits for a database that another one opens
	ending  map[K][]*Entry[K, D]  // those that are being closed
	left    chan struct{}         // closed when none is being closed any more; nil unless somebody waits for that
	leaving int                   // so many are being closed
	round   int64                 // of the ticks
	ticker  *time.Timer           // runs while there are unused ones
	closed  bool

	counts Counts
}

// Limits bound a Set.
type Limits struct {
	MaxOpen   int           // databases that are open at once; 0 is no limit
	MaxUnused int           // that nobody uses; 0 is no limit
	Unused    time.Duration // after which one that nobody uses is closed, or half as much later; 0 is at once
}

// Counts are what a Set has done.
type Counts struct {
	Open, Unused, Waiting int   // now: those that are open, those of them that nobody uses, and who waits for a place
	Opened, Evicted       int64 // Evicted: closed for want of use, or for another one's place
}

// An Entry is a database of a Set: being opened until ready is closed; from then on open, or failed.
type Entry[K comparable, D Database] struct {
	Key K
	On  D // once it is open

	ready chan struct{}
	err   error // why it could not be opened

	// Guarded by Set.mu:

	open       bool
	refs       int           // of those who use it, or wait for it to be opened
	listed     bool          // it is in Set.byKey
	keep       bool          // it stays open for some time when nobody uses it
	since      int64         // the round in which it was last used
	prev, next *Entry[K, D]  // in Set.unused
	gone       chan struct{} // closed when it is closed; nil unless somebody waits for that

	place rwlock.Hold // until it is closed
}

// NewSet returns an empty one. The name is that of a place, in errors. contain calls a function, and recovers from its panic.
func NewSet[K comparable, D Database](limits Limits, name string, contain func(func())) *Set[K, D] {
	s := &Set[K, D]{cfg: limits, contain: contain, byKey: make(map[K]*Entry[K, D]), ending: make(map[K][]*Entry[K, D]), waiters: make(map[*rwlock.Owner]int)}
	if limits.MaxOpen > 0 {
		s.places = rwlock.NewLock(name, limits.MaxOpen)
	}
	return s
}

// ErrClosed is of a Set that is closed.
var ErrClosed = errors.New("the databases are closed")

// ErrEnding is of a database that is being closed, and cannot be opened a second time.
var ErrEnding = errors.New("the database is being closed")

// errOpenerLeft is of an entry whose opener has left before it was open: not for the reason that it cannot be opened.
var errOpenerLeft = errors.New("who opened it has left")

// Get returns the database if it is open. It is to be given back by Leave.
func (s *Set[K, D]) Get(key K) *Entry[K, D] {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.byKey[key]
	if e == nil || !e.open {
		return nil
	}
	s.use(e)
	return e
}

// use adds one who uses e.
func (s *Set[K, D]) use(e *Entry[K, D]) {
	if e.refs++; e.refs == 1 {
		s.unused.remove(e)
	}
}

// A Taking is how Take opens a database that is not open, and waits.
type Taking[D Database] struct {
	Open func(ctx context.Context) (D, error)
	Keep bool        // it stays open when nobody uses it, and may be opened again while it is closed
	Wait rwlock.Wait // for a place, and for who opens the same one

	// Owner is the one who waits for a place. A place itself has none: others use the database too, and it may be unused before that one
	// ends. So Wait.Hopeless may find out about circles, to which the Work of a place is its Entry.
	Owner *rwlock.Owner
}

// Take returns the database, which it opens if it is not open. It is to be given back by Leave.
func (s *Set[K, D]) Take(ctx context.Context, key K, t Taking[D]) (*Entry[K, D], error) {
	for began := time.Now(); ; {
		e, mine, err := s.join(key, t.Keep)
		switch {
		case err != nil:
			return nil, err
		case mine:
			if err = s.open(ctx, e, t); err == nil && s.isShut(e) {
				err = ErrClosed
			}
		default:
			err = s.await(ctx, e, t.Owner, t.Wait)
		}
		if err == nil {
			return e, nil
		}
		s.Leave(e)
		if err != errOpenerLeft {
			return nil, err
		}
		if t.Wait.Timeout -= time.Since(began); t.Wait.Timeout <= 0 {
			return nil, rwlock.ErrTimeout
		}
		began = time.Now()
	}
}

// join adds one who uses the database of the key, or wants to. If it is mine, he is to open it.
func (s *Set[K, D]) join(key K, keep bool) (e *Entry[K, D], mine bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, false, ErrClosed
	}
	if e = s.byKey[key]; e != nil {
		s.use(e)
		return e, false, nil
	}
	if slices.ContainsFunc(s.ending[key], func(e *Entry[K, D]) bool { return !e.keep }) {
		return nil, false, ErrEnding
	}
	e = &Entry[K, D]{Key: key, ready: make(chan struct{}), refs: 1, listed: true, keep: keep}
	s.byKey[key] = e
	return e, true, nil
}

// await waits until somebody else has opened e.
func (s *Set[K, D]) await(ctx context.Context, e *Entry[K, D], owner *rwlock.Owner, w rwlock.Wait) error {
	select {
	case <-e.ready:
		return e.err
	default:
	}
	s.Awaits(owner, 1)
	defer s.Awaits(owner, -1)
	timeout := time.NewTimer(w.Timeout)
	defer timeout.Stop()
	select {
	case <-e.ready:
		return e.err
	case <-ctx.Done():
		return ctx.Err()
	case <-w.Closed:
		return ErrClosed
	case <-timeout.C:
		return rwlock.ErrTimeout
	}
}

// open opens e for all who wait for it.
func (s *Set[K, D]) open(ctx context.Context, e *Entry[K, D], t Taking[D]) (err error) {
	var on D
	told := errOpenerLeft // also if what follows does not return
	defer func() { s.opened(e, on, told) }()
	if err := s.takePlace(ctx, e, t); err != nil {
		return err
	}
	on, err = t.Open(ctx)
	if told = err; err != nil && ctx.Err() != nil {
		told = errOpenerLeft // the error may be of its own context
	}
	return err
}

// isShut tells of a database that was opened just when the set was closed.
func (s *Set[K, D]) isShut(e *Entry[K, D]) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return e.err != nil
}

// opened tells those who wait for e that it is open, or why not.
func (s *Set[K, D]) opened(e *Entry[K, D], on D, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.On, e.err = on, err
	if err == nil {
		e.open = true
		s.counts.Opened++
		s.counts.Open++
		if s.closed { // meanwhile
			e.err = ErrClosed
			s.close(e)
		}
	} else {
		s.unlist(e)
		if e.place.Held() {
			s.placed--
			e.place.Release()
		}
	}
	close(e.ready)
}

// Open returns those that are open, first those that nobody uses, the longest unused first.
func (s *Set[K, D]) Open() (all []D) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := s.unused.first; e != nil; e = e.next {
		all = append(all, e.On)
	}
	for _, e := range s.byKey {
		if e.open && e.refs > 0 {
			all = append(all, e.On)
		}
	}
	return all
}

// Each calls f for all that are open, each of which is in use meanwhile.
func (s *Set[K, D]) Each(f func(K, D)) {
	s.mu.Lock()
	var all []*Entry[K, D]
	for _, e := range s.byKey {
		if e.open {
			s.use(e)
			all = append(all, e)
		}
	}
	s.mu.Unlock()
	for _, e := range all {
		f(e.Key, e.On)
		s.Leave(e)
	}
}

// Counts returns them.
func (s *Set[K, D]) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counts
	c.Unused, c.Waiting = s.unused.len, s.wanting
	return c
}
