package bytelock

import (
	"context"
	"slices"
	"time"
)

// AcquireAllBut is AcquireAll for who has the locks of some users, exclusively: it takes those of all others. What has been
// acquired so is a lock of all users to Join and Holders, and is released like one.
//
// It is not in a queue. It keeps the global door, so that nobody begins a new run, and tries to have all the rest in one step: if
// it waited for one with another in its hand, two such callers could wait for each other.
func (f *File) AcquireAllBut(ctx context.Context, held []Key) (*Lock, error) {
	return f.acquireAllBut(ctx, nil, nil, held)
}

func (f *File) acquireAllBut(ctx context.Context, timeout <-chan time.Time, stopped <-chan struct{}, held []Key) (*Lock, error) {
	gaps := gapsBetween(held)
	atDoor := false
	defer func() {
		if atDoor {
			f.all.tries.unlock(span{globalDoor, 1})
		}
	}()
	const longest = 8 * time.Millisecond
	for pause := 100 * time.Microsecond; ; pause = min(2*pause, longest) {
		if err := f.check(time.Now()); err != nil {
			return nil, err
		}
		if l, err := f.tryAllBut(gaps); l != nil || err != nil {
			return l, err
		}
		var err error
		if !atDoor {
			if atDoor, err = f.tryGlobalDoor(); err != nil {
				return nil, err
			}
		}
		if err := pauseFor(ctx, pause, timeout, stopped); err != nil {
			return nil, err
		}
	}
}

// TryAcquireAll is AcquireAll, or AcquireAllBut for who has some, where that needs no wait; otherwise it returns nil, nil.
func (f *File) TryAcquireAll(held []Key) (*Lock, error) {
	if len(held) == 0 {
		return f.TryAcquire(All, Exclusive)
	}
	if err := f.check(time.Now()); err != nil {
		return nil, err
	}
	return f.tryAllBut(gapsBetween(held))
}

// gapsBetween returns the locks of users between those of the keys.
func gapsBetween(keys []Key) (gaps []span) {
	keys = slices.Clone(keys)
	slices.Sort(keys)
	from := Key(0)
	for _, k := range append(keys, specials) {
		if k > from {
			gaps = append(gaps, span{int64(from), int64(k - from)})
		}
		from = k + 1
	}
	return gaps
}

// tryGlobalDoor takes the global door, unless a call of this File is there: it has the same descriptor.
func (f *File) tryGlobalDoor() (bool, error) {
	s := &f.everyone
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lines[everything] != nil {
		return false, nil
	}
	return f.all.tries.try(Exclusive, span{globalDoor, 1})
}

// tryAllBut takes all of the gaps or none.
func (f *File) tryAllBut(gaps []span) (*Lock, error) {
	s := &f.everyone
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	if s.lines[everything] != nil {
		return nil, nil
	}
	by := f.all.tries
	for i, gap := range gaps {
		if ok, err := by.try(Exclusive, gap); !ok || err != nil {
			for _, got := range gaps[:i] {
				by.unlock(got)
			}
			return nil, err
		}
	}
	l := s.obtain(f, everything)
	l.begin(Exclusive, by, time.Now())
	l.use(Exclusive)
	return &Lock{line: l, mode: Exclusive}, nil
}
