package sqlite

import (
	"strings"
)

// A uriParam is one parameter of a URI, decoded.
type uriParam struct{ name, value string }

// uriQuery reads the query of a URI as SQLite does (sqlite3ParseUri): it ends at "#",
// an escape that is no hexadecimal number stays as it is, "+" is no space, and %00 ends a
// name or a value. (The drivers read their own parameters as package net/url does, "#" and
// what is behind it included.)
func uriQuery(query string) (pairs []uriParam) {
	query, _, _ = strings.Cut(query, "#")
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if name = unescape(name); name != "" {
			pairs = append(pairs, uriParam{name, unescape(value)})
		}
	}
	return pairs
}

// uriPath cuts the authority and the fragment off the part between "file:"
// and "?", and decodes it.
func uriPath(uri string) string {
	uri, _, _ = strings.Cut(uri, "#")
	if rest, ok := strings.CutPrefix(uri, "//"); ok {
		_, path, _ := strings.Cut(rest, "/")
		uri = "/" + path
	}
	return unescape(uri)
}

// unescape decodes a part of a URI, which %00 ends.
func unescape(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]) {
			c := unhex(s[i+1])<<4 | unhex(s[i+2])
			if c == 0 {
				break
			}
			b.WriteByte(c)
			i += 2
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

// isTrue reads a boolean as SQLite does (sqlite3GetBoolean): a number counts as far as it
// is one.
func isTrue(value string) bool {
	switch strings.ToLower(value) {
	case "yes", "true", "on":
		return true
	}
	digits, base := value, 10
	if len(value) > 2 && value[0] == '0' && value[1]|0x20 == 'x' {
		digits, base = value[2:], 16
	}
	n := 0
	for i := 0; i < len(digits) && isHex(digits[i]) && (base == 16 || digits[i] <= '9'); i++ {
		if n = n*base + int(unhex(digits[i])); n > 1<<31-1 {
			return false // SQLite takes what is too large for 0
		}
	}
	return n != 0
}

// uriOf writes a path in the form that SQLite decodes.
func uriOf(path string) string {
	escaped := strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path)
	if strings.HasPrefix(escaped, "//") { // not an authority
		return "file://" + escaped
	}
	return "file:" + escaped
}
