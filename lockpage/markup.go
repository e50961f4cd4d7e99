package lockpage

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/calmdocs/dblocker/internal/plain"
)

// A fixed is a piece of HTML or SVG that stands in the source. A string does not become one without a conversion, and there is
// none in this package: what comes from outside is written by text only.
type fixed string

// A markup is HTML or SVG in the making.
type markup struct{ strings.Builder }

func (m *markup) put(pieces ...fixed) {
	for _, p := range pieces {
		m.WriteString(string(p))
	}
}

// text writes what may come from anywhere, so that it is shown and nothing else, between tags and in attributes with
// double quotes. What has no shape of its own, or would change the shape of what follows, is written in escapes.
func (m *markup) text(s string) {
	marks := 0
	for _, r := range plain.UTF8(limited(s, 2000)) {
		if marks++; !plain.IsMark(r) {
			marks = 0
		}
		switch {
		case marks > mostMarks:
			m.WriteString(plain.Escaped(r))
		case r == '<':
			m.WriteString("&lt;")
		case r == '>':
			m.WriteString("&gt;")
		case r == '&':
			m.WriteString("&amp;")
		case r == '"':
			m.WriteString("&#34;")
		case r == '\'':
			m.WriteString("&#39;")
		case r == '`':
			m.WriteString("&#96;")
		case plain.IsUnseen(r):
			m.WriteString(plain.Escaped(r))
		default:
			m.WriteRune(r)
		}
	}
}

// attr writes an attribute.
func (m *markup) attr(name fixed, value string) {
	m.put(" ", name, `="`)
	m.text(value)
	m.put(`"`)
}

// length writes a number of a drawing, and at one as an attribute.
func (m *markup) length(x float64) { m.Write(strconv.AppendFloat(nil, x, 'f', -1, 64)) }
func (m *markup) at(name fixed, n int) {
	m.put(" ", name, `="`)
	m.Write(strconv.AppendInt(nil, int64(n), 10))
	m.put(`"`)
}

// element writes an element with text in it.
func (m *markup) element(open fixed, text string, end fixed) {
	m.put(open)
	m.text(text)
	m.put(end)
}

// mostMarks is how many marks a letter may have, which else would cover the lines above and below.
const mostMarks = 3

// limited cuts what is longer than n bytes.
func limited(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return plain.Begin(s, n) + "…"
}

// fitting cuts what is wider than n letters.
func fitting(s string, n int) string { return cut(s, n, letters) }

// cut cuts what is wider than the room.
func cut(s string, room int, width func(rune) int) string {
	s = plain.UTF8(limited(s, 16*room))
	wide, fits := 0, 0
	for i, r := range s {
		if wide += width(r); wide > room {
			return s[:fits] + "…"
		}
		if wide+width('…') <= room {
			fits = i + utf8.RuneLen(r)
		}
	}
	return s
}

// letters is how many letters wide something is shown.
func letters(r rune) int {
	switch {
	case plain.IsUnseen(r):
		return len(plain.Escaped(r))
	case plain.IsMark(r):
		return 0
	case isWide(r):
		return 2
	}
	return 1
}

func isWide(r rune) bool {
	return r >= 0x1100 && (r <= 0x115f || r >= 0x2e80 && r <= 0xa4cf || r >= 0xac00 && r <= 0xd7a3 || r >= 0xf900 && r <= 0xfaff ||
		r >= 0xfe30 && r <= 0xfe6f || r >= 0xff00 && r <= 0xff60 || r >= 0xffe0 && r <= 0xffe6 || r >= 0x1f300 && r <= 0x1faff || r >= 0x20000 && r <= 0x3fffd)
}

// thousands writes a number with commas.
func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// inWords writes a duration with as many figures as a person compares.
func inWords(d time.Duration) string {
	switch {
	case d <= 0:
		return "0 s"
	case d < time.Millisecond:
		return "<1 ms"
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	case d < time.Minute:
		return strconv.FormatFloat(d.Truncate(100*time.Millisecond).Seconds(), 'f', 1, 64) + " s"
	case d < time.Hour:
		return fmt.Sprintf("%d min %02d s", d/time.Minute, d%time.Minute/time.Second)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %02d min", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}
