package server

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// A shelf has connections that come from the sql.DB of an innerPool, are drawn as far as that knows,
// and are free. To draw a connection from a sql.DB and to put it back is a tenth of a small read
// by itself, and where two processors do so at the same time, a third.
//
// No connection stays on the shelf for longer than shelfTime: then it goes back to the sql.DB, whose limits
// of time and number are for it to keep. It does at once while somebody waits there for
// a connection, or wants the sql.DB itself. To miss neither, both sides look after they have said
// what they do: put, after a connection is on its place; wants, after wanted is counted.
type shelf struct {
	firstFirst bool // never changed

	places [shelfPlaces]atomic.Pointer[Conn]
	wanted atomic.Int32  // who wants the connections in the sql.DB; while it is not 0, none stays here
	awaits atomic.Int32  // who is in await
	handed chan *Conn    // to them
	timed  atomic.Bool   // a timer is going to clear the shelf
	round  atomic.Uint32 // counts the times that it has
	ending sync.Mutex    // of the timer while it clears the shelf

	// passing is that of the connection that the timer has in its hands, which is nowhere else to be had; nil if there is none. It is set before
	// the connection is taken, so who has found none on the shelf finds it. Written under ending.
	passing atomic.Pointer[passage]
}

// A passage is that of a connection from the shelf to the sql.DB. A program that has but one connection, and relies on its session, would
// get another one while it lasts.
type passage struct {
	end  func()
	over chan struct{} // closed by end
}

const (
	shelfPlaces = 8
	shelfTime   = 100 * time.Millisecond
	awaitTime   = 500 * time.Microsecond // about what it takes to open a SQLite file
)

// mayShelve tells whether the limits leave room for the shelf.
func (l Limits) mayShelve() bool {
	const short = 10 * shelfTime
	isLong := func(d time.Duration) bool { return d <= 0 || d >= short }
	return l.MaxIdleConns > 0 && isLong(l.ConnMaxLifetime) && isLong(l.ConnMaxIdleTime)
}

// take takes a connection, if there is one; else it returns nil. As in a sql.DB, the one that was given
// back last comes first, where they do not come and go at the same time. But of a local database the one that was
// given back first does: of two processors that give theirs back, the first comes again first, and has its own
// then, whose pages are in its cache. That is a fifth of a small read.
func (s *shelf) take() *Conn {
	for i := range s.places {
		if !s.firstFirst {
			i = shelfPlaces - 1 - i
		}
		if sc := s.takeFrom(i); sc != nil {
			return sc
		}
	}
	return nil
}

// takeFor takes the connection on which the lock of user rests. Nobody's user is "".
func (s *shelf) takeFor(user string) *Conn {
	return s.takeIf(func(sc *Conn) bool { return user != "" && sc.restsFor(user) })
}

// takeAny is take where locks rest on connections: it takes one on which none does rather than another.
func (s *shelf) takeAny() *Conn {
	if sc := s.takeIf(func(sc *Conn) bool { return sc.rest.state.Load() == nothing }); sc != nil {
		return sc
	}
	return s.take()
}

func (s *shelf) takeIf(is func(*Conn) bool) *Conn {
	for i := len(s.places) - 1; i >= 0; i-- {
		if sc := s.places[i].Load(); sc != nil && is(sc) && s.places[i].CompareAndSwap(sc, nil) {
			return sc
		}
	}
	return nil
}

func (s *shelf) takeFrom(i int) *Conn {
	if sc := s.places[i].Load(); sc != nil && s.places[i].CompareAndSwap(sc, nil) {
		return sc
	}
	return nil
}

// put puts a connection there, if it may stay.
func (s *shelf) put(sc *Conn) bool {
	rests := sc.rest.state.Load() != nothing // then it was valid, and now only who gives the lock up may tell
	if s.isWanted() || sc.shelfRound != s.round.Load() || !rests && !sc.IsValid() {
		return false
	}
	if s.hand(sc) {
		return true
	}
	if !s.place(sc) {
		return false
	}
	s.placed()
	return true
}

// placed is called when a connection is on its place.
func (s *shelf) placed() {
	if s.isWanted() {
		s.clear()
	} else if !s.timed.Load() && s.timed.CompareAndSwap(false, true) {
		time.AfterFunc(shelfTime, s.endRound)
	}
}

func (s *shelf) place(sc *Conn) bool {
	for i := range s.places {
		if s.places[i].Load() == nil && s.places[i].CompareAndSwap(nil, sc) {
			return true
		}
	}
	return false
}

// await waits for a connection that is given back, rather than to have another opened. A processor that
// was taken away in the middle of many a statement leaves as many connections in use; to open
// more for the others, and to close them again, would take more of it than their statements. It
// returns nil if none has come in the time in which one can be opened.
func (s *shelf) await(ctx context.Context) *Conn {
	s.awaits.Add(1)
	defer s.awaits.Add(-1)
	timer := time.NewTimer(awaitTime)
	defer timer.Stop()
	select {
	case sc := <-s.handed:
		return sc
	case <-timer.C:
	case <-ctx.Done():
	}
	return nil
}

// hand gives a connection to somebody in await.
func (s *shelf) hand(sc *Conn) bool {
	if s.awaits.Load() == 0 {
		return false
	}
	select {
	case s.handed <- sc:
		return true
	default:
		return false
	}
}

func (s *shelf) isWanted() bool { return s.wanted.Load() != 0 }

// wants clears the shelf, and keeps it so until wantsNoMore.
func (s *shelf) wants() {
	s.wanted.Add(1)
	s.clear()
}

func (s *shelf) wantsNoMore() { s.wanted.Add(-1) }

// close clears the shelf for good, and waits for the timer that may have a connection in its hands.
func (s *shelf) close() {
	s.wants()
	s.ending.Lock()
	defer s.ending.Unlock()
}

// pass lets the connections on the shelf pass through the sql.DB now.
func (s *shelf) pass() {
	s.ending.Lock()
	defer s.ending.Unlock()
	for i := range s.places {
		s.passFrom(i)
	}
}

// endRound lets each connection pass through the sql.DB once: those on the shelf now, the others when they are
// given back.
func (s *shelf) endRound() {
	s.timed.Store(false)
	s.round.Add(1)
	s.pass()
}

// passFrom lets the connection on a place do so, unless somebody is giving up a lock on it: that one stays.
func (s *shelf) passFrom(i int) {
	if s.places[i].Load() == nil {
		return
	}
	over := make(chan struct{})
	p := &passage{sync.OnceFunc(func() { close(over) }), over}
	s.passing.Store(p)
	defer p.end()
	defer s.passing.Store(nil)
	sc := s.takeFrom(i)
	if sc == nil {
		return
	}
	sc.passing = p
	if sc.TryWake(); sc.IsSettling() && s.place(sc) {
		s.placed()
		return
	}
	sc.toDB()
}

// awaitPassing waits for the connection that the timer has in its hands, and reports false if there is none. It waits
// for none that is closed.
func (s *shelf) awaitPassing(ctx context.Context) bool {
	p := s.passing.Load()
	if p == nil {
		return false
	}
	select {
	case <-p.over:
	case <-ctx.Done():
	}
	return true
}

func (s *shelf) clear() {
	for i := range s.places {
		if sc := s.takeFrom(i); sc != nil {
			sc.toDB()
		}
	}
}

// toDB returns a connection to the sql.DB. A lock that rests goes on to do so there, from when the sql.DB has asked whether the
// connection is valid. While somebody gives it up, the connection waits, and nobody else does.
func (sc *Conn) toDB() {
	sc.cache.tellAll()
	sc.TryWake()
	if sc.IsSettling() {
		sc.Later(func() { sc.inDB.Close() })
		return
	}
	sc.lies = sc.rest.state.Load() == awake
	sc.inDB.Close()
}

// len returns how many connections are there.
func (s *shelf) len() (n int) {
	for i := range s.places {
		if s.places[i].Load() != nil {
			n++
		}
	}
	return n
}
