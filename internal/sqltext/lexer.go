package sqltext

import "strings"

// A token is the smallest piece of a statement that matters here. Literals carry no text, but for SQLite's strings: what
// they contain never changes what a statement does.
type token struct {
	kind tokenKind
	char byte   // of a symbol
	name string // of a word, a quoted name or a variable: a slice of the query, without quotes and sigils
	word string // of a word that is a keyword: the constant in upper case
}

type tokenKind uint8

const (
	end     tokenKind = iota // of the text
	symbol                   // one character of punctuation or of an operator
	word                     // a bare keyword or identifier
	quoted                   // an identifier in quotes; in MySQL also a string in double quotes
	literal                  // a string, a number, a parameter or a variable
	system                   // MySQL's @@name, or the first part of @@session.name
	broken                   // what has no certain end, or no certain meaning
)

// isNamed reports whether t is a name that the program or the server may have given to anything.
func (t token) isNamed() bool { return t.kind == word || t.kind == quoted }

// is reports whether t is the symbol c.
func (t token) is(c byte) bool { return t.kind == symbol && t.char == c }

// lexer cuts a query into tokens as the server would. Where servers of one dialect may differ because of their
// settings, and reading says nothing of them, the token is broken.
type lexer struct {
	dialect Dialect
	reading reading
	fault   fault
	text    string
	pos     int
	start   int // of the last token
}

// fault is why a token is broken.
type fault uint8

const (
	obscure   fault = iota // what it means cannot be told
	ambiguous              // its end depends on a setting of the server
	unclosed               // a quote has no end, so that no server executes it
)

// next returns the next token. After a broken one there is nothing but end.
func (l *lexer) next() token {
	if !l.skipSpace() {
		return l.fail()
	}
	if l.pos == len(l.text) {
		return token{kind: end}
	}
	l.start = l.pos
	c := l.text[l.pos]
	switch {
	case isNameStart(c):
		return l.word()
	case isDigit(c) || c == '.' && isDigit(l.peek(1)):
		return l.number()
	}
	switch c {
	case '\'':
		return l.string()
	case '"':
		return l.doubleQuoted()
	case '`':
		if l.dialect != PostgreSQL {
			return l.quotedName('`')
		}
	case '[':
		if l.dialect == SQLite {
			return l.bracketed()
		}
	case '$', '@', ':', '#':
		if t, ok := l.sigil(c); ok {
			return t
		}
	}
	l.pos++
	return token{kind: symbol, char: c}
}

// peek returns the byte n places ahead, 0 beyond the end. A query contains no NUL.
func (l *lexer) peek(n int) byte {
	if l.pos+n < len(l.text) {
		return l.text[l.pos+n]
	}
	return 0
}

func (l *lexer) rest() string { return l.text[l.pos:] }

func (l *lexer) fail() token { return l.failBecause(obscure) }

func (l *lexer) failBecause(f fault) token {
	l.pos = len(l.text)
	l.fault = f
	return token{kind: broken}
}

const byteOrderMark = "\uFEFF"

// skipSpace passes over white space and comments, and reports false for a comment that is not one for certain.
func (l *lexer) skipSpace() bool {
	for l.pos < len(l.text) {
		switch c := l.text[l.pos]; {
		case isSpace(c):
			l.pos++
		case c == '-' && l.startsDashComment(), c == '#' && l.dialect == MySQL:
			l.skipLine()
		case c == '/' && l.peek(1) == '*':
			if !l.skipBlockComment() {
				return false
			}
		case l.dialect == SQLite && strings.HasPrefix(l.rest(), byteOrderMark):
			// Space to SQLite, part of a name to the others.
			l.pos += len(byteOrderMark)
		default:
			return true
		}
	}
	return true
}

// startsDashComment: in MySQL "--" must be followed by space, a control character or the end, so that 5--1 is 6.
func (l *lexer) startsDashComment() bool {
	if l.peek(1) != '-' {
		return false
	}
	after := l.peek(2)
	return l.dialect != MySQL || after <= ' ' || after == 0x7f
}

func (l *lexer) skipLine() {
	ends := "\n"
	if l.dialect == PostgreSQL {
		ends = "\r\n" // to the others, a lone carriage return is part of the comment
	}
	if n := strings.IndexAny(l.rest(), ends); n >= 0 {
		l.pos += n
	} else {
		l.pos = len(l.text)
	}
}

// skipBlockComment passes over a /* comment, nested in PostgreSQL only. SQLite lets one run to the end of the text; that
// is more often a mistake than meant, and counts as broken. MySQL's /*! and MariaDB's /*M! hold SQL, which is or is not
// executed depending on the server's version: broken as well, unless that makes no difference.
func (l *lexer) skipBlockComment() bool {
	if l.dialect == MySQL && (l.peek(2) == '!' || l.peek(2) == 'M' && l.peek(3) == '!') {
		return l.skipHints()
	}
	l.pos += len("/*")
	for depth := 1; depth > 0; {
		switch {
		case l.pos >= len(l.text):
			return false
		case l.peek(0) == '*' && l.peek(1) == '/':
			depth--
			l.pos += len("*/")
		case l.dialect == PostgreSQL && l.peek(0) == '/' && l.peek(1) == '*':
			depth++
			l.pos += len("/*")
		default:
			l.pos++
		}
	}
	return true
}

// word reads a bare name, or a string with a prefix that changes how it is read.
func (l *lexer) word() token {
	start := l.pos
	for l.pos < len(l.text) && isNamePart(l.text[l.pos]) {
		l.pos++
	}
	name := l.text[start:l.pos]
	if l.dialect == PostgreSQL && len(name) == 1 {
		switch name[0] | 0x20 {
		case 'e':
			if l.peek(0) == '\'' {
				return l.escapeString()
			}
		case 'u':
			if l.peek(0) == '&' && l.peek(1) == '"' {
				// U&"\006eextval" is a name that we would have to decode to know it.
				return l.fail()
			}
		}
	}
	return token{kind: word, name: name, word: keyword(name)}
}

// number reads digits, at most one point, and an exponent. Letters directly behind start a word of their own, as in
// PostgreSQL up to 14, where "SELECT 1INTO t" has the meaning it seems to have.
func (l *lexer) number() token {
	l.skipDigits()
	if l.peek(0) == '.' {
		l.pos++
		l.skipDigits()
	}
	if l.peek(0)|0x20 == 'e' {
		sign := 1
		if c := l.peek(1); c == '+' || c == '-' {
			sign = 2
		}
		if isDigit(l.peek(sign)) {
			l.pos += sign
			l.skipDigits()
		}
	}
	return token{kind: literal}
}

func (l *lexer) skipDigits() {
	for isDigit(l.peek(0)) {
		l.pos++
	}
}

// string reads '...'. SQLite takes one for a name where it needs a name.
func (l *lexer) string() token {
	start := l.pos + 1
	if f, ok := l.skipQuoted('\'', l.escapesIn('\'')); !ok {
		return l.failBecause(f)
	}
	if l.dialect == SQLite {
		return token{kind: literal, name: l.text[start : l.pos-1]}
	}
	return token{kind: literal}
}

// doubleQuoted reads "...": a name, but a string in MySQL without ANSI_QUOTES.
func (l *lexer) doubleQuoted() token { return l.quotedName('"') }

func (l *lexer) quotedName(quote byte) token {
	start := l.pos + 1
	if f, ok := l.skipQuoted(quote, l.escapesIn(quote)); !ok {
		return l.failBecause(f)
	}
	return token{kind: quoted, name: l.text[start : l.pos-1]}
}

// bracketed reads SQLite's [...], which has no way to contain a bracket.
func (l *lexer) bracketed() token {
	n := strings.IndexByte(l.rest(), ']')
	if n < 0 {
		return l.fail()
	}
	name := l.rest()[1:n]
	l.pos += n + 1
	return token{kind: quoted, name: name}
}

// skipQuoted passes over text in quotes, in which a doubled quote stands for one. If it is not certain whether a
// backslash escapes the next character, the end must be the same for both, which it is unless an odd number of
// backslashes stands before a quote.
func (l *lexer) skipQuoted(quote byte, escapes certainty) (f fault, ok bool) {
	l.pos++
	for backslashes := 0; l.pos < len(l.text); l.pos++ {
		c := l.text[l.pos]
		if c == '\\' {
			backslashes++
			continue
		}
		if c == quote {
			switch escaped := backslashes%2 == 1; {
			case escaped && escapes == perhaps:
				return ambiguous, false
			case escaped && escapes == always:
			case l.peek(1) != quote:
				l.pos++
				return 0, true
			default:
				l.pos++
			}
		}
		backslashes = 0
	}
	return unclosed, false
}

// escapeString reads PostgreSQL's E'...', in which a backslash always escapes; the E is behind us.
func (l *lexer) escapeString() token {
	for l.pos++; l.pos < len(l.text); l.pos++ {
		switch l.text[l.pos] {
		case '\\':
			l.pos++
		case '\'':
			if l.peek(1) != '\'' {
				l.pos++
				return token{kind: literal}
			}
			l.pos++
		}
	}
	return l.fail()
}

// sigil reads what begins with $, @, : or # and is more than that character: parameters, variables, dollar quotes.
func (l *lexer) sigil(c byte) (token, bool) {
	switch {
	case l.dialect == PostgreSQL && c == '$':
		return l.dollar()
	case l.dialect == SQLite, l.dialect == MySQL && (c == '@' || c == '$'):
		return l.variable(c)
	}
	return token{}, false
}

// dollar reads PostgreSQL's $1 and $tag$...$tag$.
func (l *lexer) dollar() (token, bool) {
	if isDigit(l.peek(1)) {
		l.pos++
		l.skipDigits()
		return token{kind: literal}, true
	}
	n := 1
	for c := l.peek(n); isNameStart(c) || n > 1 && isDigit(c); c = l.peek(n) {
		n++
	}
	if l.peek(n) != '$' {
		return token{}, false
	}
	tag := l.rest()[:n+1]
	l.pos += len(tag)
	length := strings.Index(l.rest(), tag)
	if length < 0 {
		return l.fail(), true
	}
	l.pos += length + len(tag)
	return token{kind: literal}, true
}

// variable reads SQLite's :name, @name, $name and #name and MySQL's @name and @@name, whose name may be that of a
// keyword, and MySQL names that begin with a dollar sign.
func (l *lexer) variable(c byte) (token, bool) {
	if l.dialect == MySQL && c == '@' && l.peek(1) == '@' && isNamePart(l.peek(2)) {
		l.pos += len("@@")
		start := l.pos
		for ; isNamePart(l.peek(0)); l.pos++ {
		}
		return token{kind: system, name: l.text[start:l.pos]}, true
	}
	if !isNamePart(l.peek(1)) {
		return token{}, false
	}
	start := l.pos
	for l.pos++; isNamePart(l.peek(0)); l.pos++ {
	}
	if l.dialect == MySQL && c == '$' {
		return token{kind: word, name: l.text[start:l.pos]}, true
	}
	if l.dialect == SQLite && (l.peek(0) == '(' || l.peek(0) == ':') {
		// $array(index): SQLite takes everything up to the parenthesis, quotes and semicolons included, as the name.
		return l.fail(), true
	}
	return token{kind: literal}, true
}

func isSpace(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// isNameStart: every byte beyond ASCII is a letter to all three engines.
func isNameStart(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || c == '_' || c >= 0x80
}

func isNamePart(c byte) bool { return isNameStart(c) || isDigit(c) || c == '$' }
