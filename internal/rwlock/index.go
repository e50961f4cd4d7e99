package rwlock

// index finds the locks of a shard by their keys: a hash table, chained through
// the locks. A Go map would do, but it does not shrink: a table that was once asked
// for a million users would keep the room for them for ever.
type index struct {
	buckets []*Lock // their number is a power of two
	live    int     // locks in the buckets
}

const minBuckets = 8

// find returns the lock of the key, or nil.
func (x *index) find(key string, hash uint32) *Lock {
	if x.live == 0 {
		return nil
	}
	for l := *x.bucket(hash); l != nil; l = l.chain {
		if l.hash == hash && l.name == key {
			return l
		}
	}
	return nil
}

// add puts in the lock of a key that has none.
func (x *index) add(l *Lock) {
	if x.live >= len(x.buckets) {
		x.resize(max(minBuckets, 2*len(x.buckets)))
	}
	x.insert(l)
	x.live++
}

// remove takes out an idle lock.
func (x *index) remove(l *Lock) {
	at := x.bucket(l.hash)
	for *at != l {
		at = &(*at).chain
	}
	*at = l.chain
	x.live--
	// Well below the number at which it grows, lest it shrinks and grows again
	// with every lock that goes and comes.
	if x.live < len(x.buckets)/4 && len(x.buckets) > minBuckets {
		x.resize(len(x.buckets) / 2)
	}
}

func (x *index) bucket(hash uint32) **Lock {
	return &x.buckets[hash&uint32(len(x.buckets)-1)]
}

func (x *index) insert(l *Lock) {
	at := x.bucket(l.hash)
	l.chain, *at = *at, l
}

func (x *index) resize(n int) {
	old := x.buckets
	x.buckets = make([]*Lock, n)
	for _, l := range old {
		for l != nil {
			next := l.chain
			x.insert(l)
			l = next
		}
	}
}
