// Package userid writes the ID of a user as a name: of a file, a directory, a schema or a database.
//
// The name is u, and then the ID, byte by byte:
//
//	a to z, 0 to 9       as they are     27 is u27, ann is uann
//	A to Z               _ and the       Ann is u_ann
//	                     small letter
//	-                    __              4ab1-c3 is u4ab1__c3
//	any other byte       _0 and two      a@b is ua_040b, é is u_0c3_0a9
//	                     hex digits
//
// No two IDs have one name, and each name has its ID back. A name has only small letters, digits and underscores: so it
// is the same on a file system that folds case or normalizes Unicode, it has no separator, dot or NUL, it needs no quotes or
// escapes in a DSN, and what it stands beside keeps its meaning. It begins with a letter, as names in SQL must.
// Nothing is shortened: a name that is too long for its place is an error, see [Place.Check].
package userid

import (
	"strings"
)

const (
	first  = 'u' // of each name
	escape = '_'
	hex    = "0123456789abcdef"
)

// Encode returns the name of a user's ID, which is not empty.
func Encode(user string) string {
	var b strings.Builder
	b.Grow(1 + len(user) + len(user)/2)
	b.WriteByte(first)
	for i := range len(user) {
		switch c := user[i]; {
		case isPlain(c):
			b.WriteByte(c)
		case 'A' <= c && c <= 'Z':
			b.WriteByte(escape)
			b.WriteByte(c - 'A' + 'a')
		case c == '-':
			b.WriteString("__")
		default:
			b.WriteString("_0")
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		}
	}
	return b.String()
}

// Decode returns the ID whose name Encode gives; not ok for any other text.
func Decode(name string) (user string, ok bool) {
	if len(name) < 2 || name[0] != first {
		return "", false
	}
	var b strings.Builder
	for rest := name[1:]; rest != ""; {
		c, n := next(rest)
		if n == 0 {
			return "", false
		}
		b.WriteByte(c)
		rest = rest[n:]
	}
	return b.String(), true
}

// next returns the first byte of the ID whose name goes on with rest, and how long it is there; 0 if that is no name.
func next(rest string) (c byte, n int) {
	if isPlain(rest[0]) {
		return rest[0], 1
	}
	if rest[0] != escape || len(rest) < 2 {
		return 0, 0
	}
	switch c := rest[1]; {
	case 'a' <= c && c <= 'z':
		return c - 'a' + 'A', 2
	case c == escape:
		return '-', 2
	case c != '0' || len(rest) < 4:
		return 0, 0
	}
	high, low := strings.IndexByte(hex, rest[2]), strings.IndexByte(hex, rest[3])
	if high < 0 || low < 0 {
		return 0, 0
	}
	c = byte(high<<4 | low)
	if hasShorter(c) {
		return 0, 0
	}
	return c, 4
}

func isPlain(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

// hasShorter tells of bytes that are never written in hex.
func hasShorter(c byte) bool { return isPlain(c) || 'A' <= c && c <= 'Z' || c == '-' }
