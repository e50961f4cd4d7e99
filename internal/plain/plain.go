// Package plain writes text from outside so that all of it is seen, and nothing of it is a command to a terminal or changes the direction
// of what follows.
package plain

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// JSON returns JSON in which what is not seen is written in escapes, for readers the same. It stands in strings only.
func JSON(text []byte) []byte {
	if !slices.ContainsFunc(text, func(b byte) bool { return b >= 0x7f }) {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		switch {
		case r < 0x7f || !IsUnseen(r):
			b.Write(text[i : i+size])
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		}
		i += size
	}
	return []byte(b.String())
}

// UTF8 returns a text with the bytes that are not UTF-8 in escapes, as \xff: else all of them would look the same.
func UTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			b.WriteString(Escaped(rune(s[i])))
		} else {
			b.WriteString(s[i : i+size])
		}
		i += size
	}
	return b.String()
}

// IsUnseen tells of control characters, of what changes the direction of text, of other characters without a shape, and of
// what stands for bytes that are not UTF-8.
func IsUnseen(r rune) bool {
	switch {
	case r == ' ':
		return false
	case r == utf8.RuneError, r == '\u034f', r == '\u115f', r == '\u1160', r == '\u3164', r == '\uffa0':
		return true
	case IsMark(r):
		return r >= 0xe0000 // tags and variants without a shape
	}
	return !unicode.IsGraphic(r) || unicode.Is(unicode.Zs, r)
}

// IsMark tells of marks, which stand with the letter before them.
func IsMark(r rune) bool { return r >= 0x300 && unicode.In(r, unicode.Mn, unicode.Me) }

// Escaped returns the escape of a character, as in Go's source.
func Escaped(r rune) string {
	switch {
	case r < 0x100:
		return fmt.Sprintf(`\x%02x`, r)
	case r < 0x10000:
		return fmt.Sprintf(`\u%04x`, r)
	}
	return fmt.Sprintf(`\U%08x`, r)
}

// Short cuts a text that has more than so many bytes, and says how many it has.
func Short(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return Begin(s, most) + Rest(s)
}

// Rest stands for the rest of a text that is cut.
func Rest(s string) string { return fmt.Sprintf("... (%d bytes)", len(s)) }

// Begin returns the first n bytes of a longer text, or a few less: no character is cut.
func Begin(s string, n int) string {
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
