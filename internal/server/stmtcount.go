package server

import "sync/atomic"

// Stmts counts what the connections of a pool keep of statements.
type Stmts struct {
	Hits, Misses atomic.Int64 // how often a statement was looked for, and was there or not
	Kept         atomic.Int64 // now
}

// counts are what a cache counts for itself, so that a call has no atomic more. It tells the sum of all when its connection passes
// through the sql.DB, which it does within shelfTime of the last call, is closed, or has many that are not told; and the lone
// connection when the sum is asked for.
//
// Who has drawn the connection has them, as all of the cache.
type counts struct {
	hits, misses int64  // that are not told
	told         int    // how many the sum counts as kept
	sum          *Stmts // nil if nothing is kept
}

// manyCounts is how many a connection keeps to itself that is in use all the time.
const manyCounts = 64

// found counts that a statement was looked for.
func (c *cache) found(is bool) {
	if is {
		c.hits++
	} else {
		c.misses++
	}
	if c.hits+c.misses >= manyCounts {
		c.tellAll()
	}
}

func (c *cache) tellAll() { c.tell(len(c.stmts)) }

// tell adds to the sum, in which kept are to stand as those that are kept.
func (c *cache) tell(kept int) {
	if c.sum == nil {
		return
	}
	if c.hits != 0 {
		c.sum.Hits.Add(c.hits)
	}
	if c.misses != 0 {
		c.sum.Misses.Add(c.misses)
	}
	if kept != c.told {
		c.sum.Kept.Add(int64(kept - c.told))
	}
	c.hits, c.misses, c.told = 0, 0, kept
}

// Stmts returns the sum, in which all is of the connections that nobody uses now.
func (p *Pool) Stmts() *Stmts {
	ip := &p.inner
	ip.mu.Lock()
	if sc := ip.lone; sc != nil && !ip.out {
		sc.cache.tellAll()
	}
	ip.mu.Unlock()
	ip.shelf.pass()
	return &ip.connector.stmts
}
