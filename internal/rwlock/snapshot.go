package rwlock

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// Info describes a hold, or a wait for one, as it was at some moment.
type Info struct {
	Key     string
	Mode    Mode
	Waiting bool // in the queue, else a holder
	Kind    Kind
	Tag     string
	Owner   *Owner
	Work    any
	Form    Form            // of the lock
	Ctx     context.Context // of the call, if somebody looks on; else nil

	// Since is when the hold, or the wait, began; For is how long it had lasted.
	// They are zero for a statement that nobody has had to wait for. For one that
	// had begun before that, they count from when somebody had to.
	Since time.Time
	For   time.Duration
}

// String says in a few words who has the lock, or waits for it, and how long.
func (i Info) String() string {
	who := i.Kind.String()
	if i.Tag != "" {
		who += fmt.Sprintf(" %q", i.Tag)
	}
	did := "held it"
	if i.Waiting {
		did = "waited for it"
	}
	return fmt.Sprintf("%s has %s for %v (%v)", who, did, i.For.Round(time.Millisecond), i.Mode)
}

// clock is one reading of both clocks, for all that is described together.
type clock struct {
	time  time.Time
	stamp stamp
}

func readClock() clock { return clock{time.Now(), now()} }

// info describes a hold that is not idle, with its shard locked.
func (h *Hold) info(c clock) Info {
	i := Info{
		Key:     h.lock.Load().name,
		Mode:    h.mode,
		Waiting: h.wait != nil,
		Kind:    h.Kind,
		Tag:     h.Tag(),
		Owner:   h.Owner,
		Work:    h.Work,
		Form:    h.lock.Load().form(),
	}
	i.Ctx = h.ctx()
	if h.since != 0 {
		i.For = c.stamp.since(h.since)
		i.Since = c.time.Add(-i.For)
	}
	return i
}

// Snapshot describes all holds and waits, lock by lock in the order of their
// keys: first the holders, then the waiters, the oldest first. Each lock is seen
// at one moment; the table as a whole is not.
func (t *Table) Snapshot() []Info {
	var infos []Info
	for i := range t.shards {
		s := &t.shards[i].shard
		s.mu.Lock()
		clock := readClock()
		for _, l := range s.index.buckets {
			for ; l != nil; l = l.chain {
				infos = l.describe(infos, clock)
			}
		}
		s.mu.Unlock()
	}
	slices.SortStableFunc(infos, func(a, b Info) int { return cmp.Compare(a.Key, b.Key) })
	return infos
}

// Count returns how many holds and waits there are. It allocates nothing, and keeps nobody waiting for long: it has one shard locked at a
// time, and that for some keys only. What changes meanwhile may be counted or not.
func (t *Table) Count() (held, waiting int) {
	for i := range t.shards {
		s := &t.shards[i].shard
		for from, more := 0, true; more; from += countAtOnce {
			s.mu.Lock()
			buckets := s.index.buckets[min(from, len(s.index.buckets)):]
			more = len(buckets) > countAtOnce
			for _, l := range buckets[:min(countAtOnce, len(buckets))] {
				for ; l != nil; l = l.chain {
					held += l.holders.count()
					waiting += l.waiters()
				}
			}
			s.mu.Unlock()
		}
	}
	return held, waiting
}

const countAtOnce = 256

// Work returns the Hold.Work of those that hold the lock of the key.
func (t *Table) Work(key string) (work []any) {
	s, hash := t.locate(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.obtain(key, hash)
	defer s.reap(l)
	for h := l.holders.first; h != nil; h = h.next {
		if h.Work != nil {
			work = append(work, h.Work)
		}
	}
	return work
}

// Lines tell who stands for an owner: the outermost of those that it is inside which hold something or wait, else itself.
// An owner that only others are inside of, as that of all requests of a program, stands for nobody.
type Lines map[*Owner]bool

// Outermost returns the lines of those who have what is described.
func Outermost(described ...[]Info) Lines {
	seen := make(Lines)
	for _, infos := range described {
		for _, i := range infos {
			for o := i.Owner.outer(); o != nil; o = o.parent {
				seen[o] = false
			}
		}
	}
	if len(seen) == 0 {
		return nil
	}
	for _, infos := range described {
		for _, i := range infos {
			if _, isOuter := seen[i.Owner]; isOuter {
				seen[i.Owner] = true
			}
		}
	}
	return seen
}

// Of returns who stands for the owner.
func (l Lines) Of(o *Owner) *Owner {
	first := o
	for p := o.outer(); p != nil; p = p.parent {
		if l[p] {
			first = p
		}
	}
	return first
}

// Snapshot describes the holders, then the waiters, the oldest first.
func (l *Lock) Snapshot() []Info {
	l.shard.mu.Lock()
	defer l.shard.mu.Unlock()
	return l.describe(nil, readClock())
}

func (l *Lock) describe(infos []Info, c clock) []Info {
	for h := l.holders.first; h != nil; h = h.next {
		infos = append(infos, h.info(c))
	}
	l.eachWaiting(func(h *Hold) { infos = append(infos, h.info(c)) })
	return infos
}

// eachWaiting calls f for those who wait, in the order of their turns.
func (l *Lock) eachWaiting(f func(*Hold)) {
	if s := l.shard.slots; s != nil {
		s.inTurn(f)
		return
	}
	if l.queue == nil {
		return
	}
	passed := l.queue.passed.first
	for h := l.queue.first; h != nil; h = h.next {
		for ; passed != nil && h.isBehind(passed); passed = passed.next {
			f(passed)
		}
		f(h)
	}
	for ; passed != nil; passed = passed.next {
		f(passed)
	}
}

// Len returns the number of holders and waiters.
func (l *Lock) Len() int {
	l.shard.mu.Lock()
	defer l.shard.mu.Unlock()
	return l.holders.len() + l.waiters()
}

// Waiting returns how many wait for the lock now.
func (l *Lock) Waiting() int {
	l.shard.mu.Lock()
	defer l.shard.mu.Unlock()
	return l.waiters()
}

// waiters returns how many wait for the lock.
func (l *Lock) waiters() int {
	if s := l.shard.slots; s != nil {
		return s.waiting
	}
	if l.queue == nil {
		return 0
	}
	return l.queue.len() + l.queue.passed.len()
}
