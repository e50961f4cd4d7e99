// Package seen keeps what is to be logged once from being logged again.
package seen

import "sync"

// maxTexts bounds the memory of a Set.
const maxTexts = 1000

// A Set remembers texts: places of the program, or files. The zero Set is empty.
type Set struct {
	mu    sync.Mutex // guards texts
	texts map[string]bool
}

// IsNew tells whether it is asked about a text for the first time. When the set is full no
// other is new.
func (s *Set) IsNew(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.texts[text] || len(s.texts) >= maxTexts {
		return false
	}
	if s.texts == nil {
		s.texts = make(map[string]bool)
	}
	s.texts[text] = true
	return true
}
