package sqltext

import (
	"strings"
)

// Contains reports whether text contains the ASCII word, in whatever case.
func Contains(text, word string) bool {
	for i := 0; i+len(word) <= len(text); i++ {
		if text[i]|0x20 == word[0]|0x20 && strings.EqualFold(text[i:i+len(word)], word) {
			return true
		}
	}
	return false
}
