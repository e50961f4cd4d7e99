package seen

import (
	"strconv"
	"testing"
)

// TestSetIsBounded: a program that asks about ever new texts does not fill the memory.
func TestSetIsBounded(t *testing.T) {
	var s Set
	for i := range 2 * maxTexts {
		text := strconv.Itoa(i)
		if got, want := s.IsNew(text), i < maxTexts; got != want {
			t.Fatalf("text %d is new: %v, want %v", i, got, want)
		}
		if s.IsNew(text) {
			t.Fatalf("text %d is new twice", i)
		}
	}
	if len(s.texts) != maxTexts {
		t.Errorf("%d texts are kept, want %d", len(s.texts), maxTexts)
	}
}
