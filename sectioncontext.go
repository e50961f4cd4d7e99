package dblocker

import (
	"slices"
	"time"
)

// Deadline implements [context.Context].
func (s *section) Deadline() (time.Time, bool) { return s.parent.Deadline() }

// Done implements [context.Context].
func (s *section) Done() <-chan struct{} { return s.done }

// Err implements [context.Context]. The error of a section that was left is
// ErrReleased.
func (s *section) Err() error {
	select {
	case <-s.done:
		return s.reason()
	default:
		return nil
	}
}

// Value implements [context.Context].
func (s *section) Value(key any) any {
	switch {
	case key == marksKey:
		return &s.marks
	case key == UserKey && s.id.user != "":
		return &s.id
	}
	return s.parent.Value(key)
}

// AfterFunc is for package context, which looks for it to end the contexts that are
// made from this one. f must not block.
func (s *section) AfterFunc(f func()) (stop func() bool) {
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
	section *section
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
