package sqltext

import (
	"hash/maphash"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"
)

// The cache's bounds: at most sets*ways texts of at most maxText bytes, 4 MB in the worst case and some 100 KB in a
// usual program.
const (
	sets    = 256
	ways    = 4
	maxText = 4 << 10
)

// Cache remembers classifications. A program sends the same few texts over and over, and a hit costs a hash and a
// comparison. It is bounded, never needs a lock, and is safe for concurrent use.
//
// Its form is that of a processor's cache: the hash of a text names a set, and the text may stand in any way of that
// set. A text enters at its second miss in a row within its set, so that texts with literals in them, each seen once,
// neither allocate nor drive out those that come back.
type Cache struct {
	dialect Dialect
	ascii   bool // whether other texts are unclear
	seed    maphash.Seed
	sets    [sets]cacheSet
}

type cacheSet struct {
	ways   [ways]atomic.Pointer[cacheEntry]
	missed atomic.Uint64 // the hash of the last text that was looked for in vain
}

// cacheEntry never changes once it is in the cache, but for took.
type cacheEntry struct {
	query     string
	statement Statement
	took      Took
}

// Took is how long a text has taken the last time, for those who use it. The zero Took is: not known yet.
type Took struct{ atomic.Int64 }

// NewCache returns an empty cache for dialect d.
func NewCache(d Dialect) *Cache {
	return &Cache{dialect: d, seed: maphash.MakeSeed()}
}

// CacheOf returns the cache for dialect d, which is one for all handles of the process: a handle may be opened for one
// request. The one for ascii is for a server that takes texts to be in a character set whose letters may contain
// the bytes of backslashes (GBK, Shift-JIS, Big5): a text that is not ASCII cannot be taken apart.
func CacheOf(d Dialect, ascii bool) *Cache {
	key := cacheKey{d, ascii}
	if c, ok := caches.Load(key); ok {
		return c.(*Cache)
	}
	c := NewCache(d)
	c.ascii = ascii
	shared, _ := caches.LoadOrStore(key, c)
	return shared.(*Cache)
}

var caches sync.Map // of *Cache by cacheKey

type cacheKey struct {
	dialect Dialect
	ascii   bool
}

// Classify is the function [Classify] with a memory.
func (c *Cache) Classify(query string) Statement {
	if len(query) > maxText {
		return c.classify(query)
	}
	hash := maphash.String(c.seed, query)
	set := &c.sets[hash%sets]
	if e := set.find(query); e != nil {
		return e.statement
	}
	s := c.classify(query)
	if set.missed.Swap(hash) == hash {
		// Cloned, since query may be a slice of something much larger.
		set.add(&cacheEntry{query: strings.Clone(query), statement: s})
	}
	return s
}

// Took returns how long the text has taken, to read and to set; nil if the cache does not know the text.
func (c *Cache) Took(query string) *Took {
	if len(query) > maxText {
		return nil
	}
	if e := c.sets[maphash.String(c.seed, query)%sets].find(query); e != nil {
		return &e.took
	}
	return nil
}

func (c *Cache) classify(query string) Statement {
	if c.ascii && strings.ContainsFunc(query, func(r rune) bool { return r >= utf8.RuneSelf }) {
		return unclear("")
	}
	return Classify(c.dialect, query)
}

func (s *cacheSet) find(query string) *cacheEntry {
	for i := range s.ways {
		if e := s.ways[i].Load(); e != nil && e.query == query {
			return e
		}
	}
	return nil
}

// add puts e in a free way, or else in the place of a random one. Two goroutines may add the same text, or one replace
// what the other has just added: that costs a place or a miss, never a wrong answer.
func (s *cacheSet) add(e *cacheEntry) {
	for i := range s.ways {
		if s.ways[i].CompareAndSwap(nil, e) {
			return
		}
	}
	s.ways[rand.IntN(ways)].Store(e)
}
