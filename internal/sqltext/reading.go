package sqltext

import "strings"

// reading says which of the settings of its server a text is read with, where these decide what a backslash in a string
// is: standard_conforming_strings of PostgreSQL, NO_BACKSLASH_ESCAPES and ANSI_QUOTES of MySQL.
type reading uint8

const (
	unsettled    reading = iota // the meaning must be the same with all of them
	noEscapes                   // a backslash is itself
	singleEscape                // a backslash escapes in '...'
	bothEscape                  // and in "...", which is a string
)

// readings are those that an engine may have. The first is what it has unless it is told otherwise.
var readings = [...][]reading{
	PostgreSQL: {noEscapes, singleEscape},
	MySQL:      {bothEscape, singleEscape, noEscapes},
}

// certainty says whether a backslash escapes.
type certainty uint8

const (
	never certainty = iota
	always
	perhaps
)

func (l *lexer) escapesIn(quote byte) certainty {
	possible := quote == '\'' && l.dialect != SQLite || quote == '"' && l.dialect == MySQL
	switch {
	case !possible || l.reading == noEscapes:
		return never
	case l.reading == unsettled:
		return perhaps
	case l.reading == bothEscape || quote == '\'':
		return always
	}
	return never
}

// classifyReadings classifies text whose meaning depends on the settings of the server: it is what it is with all of
// them. Of a single statement, settings that leave a quote open make a syntax error, which does nothing; but with those
// that an engine has by itself it must be whole.
func classifyReadings(d Dialect, query string) Statement {
	var all Statement
	for i, r := range readings[d] {
		p := parser{dialect: d, lexer: lexer{dialect: d, reading: r, text: query}}
		s := p.text()
		switch {
		case i == 0 && p.seen.broken, p.seen.broken && (p.lexer.fault != unclosed || p.seen.semicolon):
			return unclear(s.Verb)
		case i == 0:
			all = s
		case !p.seen.broken:
			all = common(all, s)
		}
	}
	return all
}

// skipHints passes over a /*! comment with nothing but words that a query means the same without.
func (l *lexer) skipHints() bool {
	n := strings.Index(l.rest(), "*/")
	if n < 0 {
		return false
	}
	hints := l.rest()[strings.IndexByte(l.rest(), '!')+1 : n]
	for hints != "" && isDigit(hints[0]) { // the version
		hints = hints[1:]
	}
	for hint := range strings.FieldsSeq(hints) {
		if !isHint(hint) {
			return false
		}
	}
	l.pos += n + len("*/")
	return true
}

func isHint(s string) bool {
	var buf [maxName]byte
	return hints[string(upper(&buf, s))]
}

// https://dev.mysql.com/doc/refman/8.4/en/select.html
var hints = nameSet(`
	SQL_NO_CACHE SQL_CACHE SQL_BIG_RESULT SQL_SMALL_RESULT SQL_BUFFER_RESULT SQL_CALC_FOUND_ROWS HIGH_PRIORITY
	STRAIGHT_JOIN`)
