package locks

import (
	"context"
	"slices"
	"time"
)

// Deadline is that of [context.Context].
func (s *Section) Deadline() (time.Time, bool) { return s.parent.Deadline() }

// Done is that of [context.Context].
func (s *Section) Done() <-chan struct{} { return s.done }

// Err is that of [context.Context]: the reason for which the section has ended.
func (s *Section) Err() error {
	select {
	case <-s.done:
		return s.Reason()
	default:
		return nil
	}
}

// Parent returns the context that the section was made from.
func (s *Section) Parent() context.Context { return s.parent }

// AfterFunc is for package context, which looks for it to end the contexts that are
// made from this one. f must not block.
func (s *Section) AfterFunc(f func()) (stop func() bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.done:
		go f()
		return func() bool { return false }
	default:
	}
	a := &afterFunc{s, f}
	s.after = append(s.after, a)
	return a.stop
}

// An afterFunc is in section.after until it is called or stopped.
type afterFunc struct {
	section *Section
	call    func()
}

func (a *afterFunc) stop() bool {
	s := a.section
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.after, a)
	if i < 0 {
		return false
	}
	last := len(s.after) - 1
	s.after[i], s.after[last] = s.after[last], nil
	s.after = s.after[:last]
	return true
}
