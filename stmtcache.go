package dblocker

import "hash/maphash"

// A stmtCache is the prepared statements that a server connection keeps from one
// use to the next: those that the program prepared, and those that it sends as text
// more than once. The least recently used one makes way for a new one.
//
// Only who has drawn the server connection uses it.
type stmtCache struct {
	size  int // the most in stmts; at 0 nothing is kept
	stmts map[string]*keptStmt

	// oldest and newest are the ends of the list of idle statements, in the order
	// of their last use.
	oldest, newest *keptStmt

	// forgotten is how often the session was changed so that statements which were
	// prepared before may no longer be what they were.
	forgotten int64

	// seen has the hashes of texts that were sent once, each in the place that it
	// names.
	seen [256]uint64

	// turnedAway counts the texts that found the cache full.
	turnedAway int
}

// A keptStmt is a statement of a stmtCache, in one of four states:
//
//	idle    in stmts and in the list: the next to want its text takes it
//	busy    in stmts: a call, open rows or a client statement has it
//	ousted  not in stmts, but still used as if busy: closed when it is let go
//	closed  for good
//
// Only idle and ousted statements are closed, so never one that is in use.
type keptStmt struct {
	*serverStmt
	cache        *stmtCache
	query        string
	state        keptState
	prepared     int64     // what version was when it was prepared
	older, newer *keptStmt // in the list
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

	// admitOneOf is how many texts it takes for one of them to be let into a full
	// cache. A program with more texts than there is room would otherwise replace
	// one at every call, which costs more than it saves.
	admitOneOf = 8
)

var textSeed = maphash.MakeSeed()

// take returns the statement of a text, and makes it busy, if there is an idle
// one of that version. there tells whether the text has one that is in use.
func (c *stmtCache) take(query string, version int64) (k *keptStmt, there bool) {
	k = c.stmts[query]
	switch {
	case k == nil:
		return nil, false
	case k.prepared != version:
		c.oust(k)
		return nil, false
	case k.state != keptIdle:
		return nil, true
	}
	c.unlink(k)
	k.state = keptBusy
	return k, true
}

// wants tells whether a text that has no statement is to have one: from its second
// use on, so that texts that are sent once leave nothing on the server.
func (c *stmtCache) wants(query string) bool {
	if len(query) > maxKeptText {
		return false
	}
	hash := maphash.String(textSeed, query)
	place := &c.seen[hash%uint64(len(c.seen))]
	if *place != hash {
		*place = hash
		return false
	}
	if len(c.stmts) < c.size {
		return true
	}
	c.turnedAway++
	return c.turnedAway%admitOneOf == 0
}

// add keeps a statement whose text has none, for the caller, who has it busy. If all
// the others are busy too there is no room, and it is ousted from the start.
func (c *stmtCache) add(query string, ss *serverStmt, version int64) *keptStmt {
	if len(c.stmts) >= c.size && c.oldest != nil {
		c.oust(c.oldest)
	}
	if len(c.stmts) >= c.size {
		return unkept(ss)
	}
	if c.stmts == nil {
		c.stmts = make(map[string]*keptStmt)
	}
	k := &keptStmt{serverStmt: ss, cache: c, query: query, state: keptBusy, prepared: version}
	c.stmts[query] = k
	return k
}

// unkept is a statement that is closed after its use.
func unkept(ss *serverStmt) *keptStmt { return &keptStmt{serverStmt: ss, state: keptOusted} }

// letGo ends the use of a statement.
func (k *keptStmt) letGo() error {
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
func (c *stmtCache) oust(k *keptStmt) {
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

// clear ousts all.
func (c *stmtCache) clear() {
	for _, k := range c.stmts {
		c.oust(k)
	}
}

func (k *keptStmt) close() error {
	k.state = keptClosed
	return k.serverStmt.Close()
}

func (c *stmtCache) link(k *keptStmt) {
	k.older, k.newer = c.newest, nil
	if c.newest == nil {
		c.oldest = k
	} else {
		c.newest.newer = k
	}
	c.newest = k
}

func (c *stmtCache) unlink(k *keptStmt) {
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
