package server

import (
	"hash/maphash"
	"slices"
	"time"

	"github.com/calmdocs/dblocker/internal/sqltext"
)

// A cache is the prepared statements that a server connection keeps from one
// use to the next: those that the program prepared, and those that it sends as text
// more than once. The least recently used one makes way for a new one.
//
// Only who has drawn the server connection uses it.
type cache struct {
	size  int // the most in stmts; at 0 nothing is kept
	stmts map[string]*Kept

	// oldest and newest are the ends of the list of idle statements, in the order
	// of their last use.
	oldest, newest *Kept

	// maxAge bounds how long a statement is kept, if not 0: for what changes without our
	// seeing it, as by another program.
	maxAge time.Duration

	// forgotten is how often the session was changed so that statements which were
	// prepared before may no longer be what they were. own is how often only settings
	// were that the program has invented; those matter to plans that are made once for
	// all executions.
	forgotten, own int64

	// unsettled is what the transaction that may be open has altered of the session, which
	// its end may alter again.
	unsettled sqltext.Alters

	// seen has the hashes of texts that were sent once since the session was changed,
	// each in the place that it names; a few are just listed, as a connection may be for
	// one request.
	seen []uint64

	// turnedAway counts the texts that found the cache full, or that were not prepared since
	// the last ones were in vain: inVain counts those in a row that became stale before
	// they had saved what they cost.
	turnedAway int
	inVain     int

	counts
}

// A Kept is a statement of a cache, in one of four states:
//
//	idle    in stmts and in the list: the next to want its text takes it
//	busy    in stmts: a call, open rows or a client statement has it
//	ousted  not in stmts, but still used as if busy: closed when it is let go
//	closed  for good
//
// Only idle and ousted statements are closed, so never one that is in use.
type Kept struct {
	*Stmt
	cache        *cache
	query        string
	state        keptState
	prepared     int64     // what version was when it was prepared
	since        time.Time // when that was, if there is a maxAge
	own          int64     // what own was when it was last used
	uses         int       // how often it was taken
	older, newer *Kept     // in the list
}

type keptState uint8

const (
	keptIdle keptState = iota
	keptBusy
	keptOusted
	keptClosed
)

const (
	// maxKeptText is the longest text that is kept: with the default size, the
	// texts of a server connection take at most 1 MiB.
	maxKeptText = 16 << 10

	// fewTexts and manyTexts are how many cache.seen lists, and has places for.
	fewTexts, manyTexts = 8, 256

	// admitOneOf is how many texts it takes for one of them to be let into a full
	// cache. A program with more texts than there is room would otherwise replace
	// one at every call, which costs more than it saves.
	admitOneOf = 8
)

var textSeed = maphash.MakeSeed()

// take returns the statement of a text, and makes it busy, if there is an idle
// one of that version. there tells whether the text has one that is in use.
func (c *cache) take(query string, version int64) (k *Kept, there bool) {
	k = c.stmts[query]
	switch {
	case k == nil:
		return nil, false
	case k.prepared != version || k.isPlanned() || k.isOld():
		if k.uses < paysFrom {
			c.inVain = min(c.inVain+1, maxInVain)
		}
		c.oust(k)
		return nil, false
	case k.state != keptIdle:
		return nil, true
	}
	c.unlink(k)
	k.state = keptBusy
	k.own = c.own
	if k.uses++; k.uses == paysFrom {
		c.inVain = 0
	}
	return k, true
}

// On lib/pq to prepare a statement and to close it costs two round trips, and each use but
// the first saves one. Where the session is changed again before, as for each request, one
// of 2^maxInVain texts is prepared, to see whether that has come to an end.
const (
	paysFrom  = 3
	maxInVain = 6
)

// customPlans is how often PostgreSQL makes a plan for a single execution of a
// statement before it may make one for all. In that one it has called the functions that
// are declared IMMUTABLE, though some programs have such that read a setting.
// https://www.postgresql.org/docs/current/sql-prepare.html#SQL-PREPARE-NOTES
const customPlans = 5

// isPlanned tells whether a setting of the program's own has changed since the statement
// was last used, and it may have a plan from then.
func (k *Kept) isPlanned() bool { return k.own != k.cache.own && k.uses >= customPlans }

func (k *Kept) isOld() bool { return k.cache.maxAge > 0 && time.Since(k.since) > k.cache.maxAge }

// forget makes all statements stale that are kept now.
func (c *cache) forget() { c.forgotten++ }

// altered is for what has altered the session.
func (c *cache) altered(a sqltext.Alters) {
	switch a {
	case sqltext.AltersSession:
		c.forget()
	case sqltext.AltersOwn:
		c.own++
	}
}

// settle is for the end of a transaction.
func (c *cache) settle() {
	c.altered(c.unsettled)
	c.unsettled = sqltext.AltersNothing
}

// wants tells whether a text that has no statement is to have one: from its second
// use on, so that texts that are sent once leave nothing on the server, and where the
// session is changed all the time nothing is prepared in vain.
func (c *cache) wants(query string, version int64) bool {
	if len(query) > maxKeptText {
		return false
	}
	hash := maphash.String(textSeed, query) + uint64(version)
	if !c.hasSeen(hash) {
		return false
	}
	oneOf := 1 << c.inVain
	if len(c.stmts) >= c.size {
		oneOf = max(oneOf, admitOneOf)
	}
	if oneOf == 1 {
		return true
	}
	c.turnedAway++
	return c.turnedAway%oneOf == 0
}

// hasSeen tells whether a text was sent before, and remembers that it was sent now.
func (c *cache) hasSeen(hash uint64) bool {
	if len(c.seen) < manyTexts {
		if slices.Contains(c.seen, hash) {
			return true
		}
		if len(c.seen) < fewTexts {
			c.seen = append(c.seen, hash)
			return false
		}
		few := c.seen
		c.seen = make([]uint64, manyTexts)
		for _, hash := range few {
			c.seen[hash%manyTexts] = hash
		}
	}
	place := &c.seen[hash%manyTexts]
	seen := *place == hash
	*place = hash
	return seen
}

// add keeps a statement whose text has none, for the caller, who has it busy. If all
// the others are busy too there is no room, and it is ousted from the start.
func (c *cache) add(query string, ss *Stmt, version int64) *Kept {
	if len(c.stmts) >= c.size && c.oldest != nil {
		c.oust(c.oldest)
	}
	if len(c.stmts) >= c.size {
		return unkept(ss)
	}
	if c.stmts == nil {
		c.stmts = make(map[string]*Kept)
	}
	k := &Kept{Stmt: ss, cache: c, query: query, state: keptBusy, prepared: version, own: c.own, uses: 1}
	if c.maxAge > 0 {
		k.since = time.Now()
	}
	c.stmts[query] = k
	return k
}

// unkept is a statement that is closed after its use.
func unkept(ss *Stmt) *Kept { return &Kept{Stmt: ss, state: keptOusted} }

// Release ends the use of a statement, which may be nil.
func (k *Kept) Release() error {
	if k == nil {
		return nil
	}
	switch k.state {
	case keptBusy:
		k.state = keptIdle
		k.cache.link(k)
	case keptOusted:
		return k.close()
	}
	return nil
}

// oust takes a statement out of the cache; it is closed as soon as it is not used.
func (c *cache) oust(k *Kept) {
	switch k.state {
	case keptIdle:
		c.unlink(k)
		k.close() // should it fail, the connection will show it at its next use
	case keptBusy:
		k.state = keptOusted
	default:
		return
	}
	delete(c.stmts, k.query)
}

// Use counts one more use of a statement that was taken.
func (k *Kept) Use() { k.uses++ }

// Evict keeps a statement from being taken again.
func (k *Kept) Evict() {
	if k.cache != nil {
		k.cache.oust(k)
	}
}

// clear ousts all.
func (c *cache) clear() {
	for _, k := range c.stmts {
		c.oust(k)
	}
}

// close may be called in the middle of a pool, and so must not panic.
func (k *Kept) close() (err error) {
	k.state = keptClosed
	sc := k.Stmt.sc
	if panicked := sc.cfg.contain(func() { err = k.Stmt.Close() }); panicked != nil {
		sc.broken = true
		return panicked
	}
	return err
}

func (c *cache) link(k *Kept) {
	k.older, k.newer = c.newest, nil
	if c.newest == nil {
		c.oldest = k
	} else {
		c.newest.newer = k
	}
	c.newest = k
}

func (c *cache) unlink(k *Kept) {
	if k.older == nil {
		c.oldest = k.newer
	} else {
		k.older.newer = k.newer
	}
	if k.newer == nil {
		c.newest = k.older
	} else {
		k.newer.older = k.older
	}
	k.older, k.newer = nil, nil
}
