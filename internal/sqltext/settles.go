package sqltext

import "strings"

// Settles is what a server settles of a text when it parses it, besides names, and would settle anew if it parsed it
// again. Of the engines here only PostgreSQL does: it makes a value of a string in quotes as soon as it knows of which
// type that is to be, which the text does not tell.
type Settles uint8

const (
	SettlesNothing    Settles = iota
	SettlesBySettings         // a value that a setting of the session may decide: a date, an amount of money
	SettlesByTime             // one that the time decides, 'today'; and what we do not understand
)

// watchString looks at the current token, if that is a string of PostgreSQL. Numbers and parameters settle nothing.
//
// PostgreSQL: "String constants of unknown type are converted by the input function of the type when the query is
// parsed", https://www.postgresql.org/docs/current/datatype-datetime.html#DATATYPE-DATETIME-SPECIAL-VALUES
func (p *parser) watchString() {
	afterString := p.seen.string
	p.seen.string = false
	if p.dialect != PostgreSQL || p.tok.kind != literal {
		return
	}
	text := p.lexer.text[p.lexer.start:p.lexer.pos]
	if isDigit(text[0]) || text[0] == '.' || text[0] == '$' && isDigit(text[1]) {
		return
	}
	p.seen.string = true
	settles := SettlesByTime // E'...', $$...$$, U&'...', and strings that a line break joins
	if text[0] == '\'' && !afterString && !p.prev.is('&') {
		settles = stringSettles(text[1 : len(text)-1])
	}
	p.seen.settles = max(p.seen.settles, settles)
}

// stringSettles takes a string for a value of any type: one that contains a word for a moment may be that moment, also
// in an array or a range, and digits may be a date or an amount of money, unless they are few or count units of time.
// An escape may hide either.
func stringSettles(s string) Settles {
	if strings.IndexByte(s, '\\') >= 0 {
		return SettlesByTime
	}
	digits := false
	for i := 0; i < len(s); {
		n := lettersIn(s[i:])
		if isMoment(s[i : i+n]) {
			return SettlesByTime
		}
		if i += n; n == 0 {
			digits = digits || isDigit(s[i])
			i++
		}
	}
	if digits && !isSmallNumber(s) && !isSpan(s) {
		return SettlesBySettings
	}
	return SettlesNothing
}

// lettersIn returns how many ASCII letters s begins with.
func lettersIn(s string) (n int) {
	for n < len(s) && 'a' <= s[n]|0x20 && s[n]|0x20 <= 'z' {
		n++
	}
	return n
}

// isMoment: 'epoch', 'infinity' and 'allballs' are always the same.
func isMoment(word string) bool {
	switch len(word) {
	case 3:
		return strings.EqualFold(word, "now")
	case 5:
		return strings.EqualFold(word, "today")
	case 8:
		return strings.EqualFold(word, "tomorrow")
	case 9:
		return strings.EqualFold(word, "yesterday")
	}
	return false
}

// isSmallNumber: from four digits on they may be a time of the day.
func isSmallNumber(s string) bool {
	return len(s) <= 3 && digitsIn(s) == len(s)
}

func digitsIn(s string) (n int) {
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	return n
}

// isSpan recognizes an interval such as '1 year 30 days'. Without a sign no setting has a say in it.
func isSpan(s string) bool {
	for {
		n := digitsIn(s)
		if n == 0 || n == len(s) || s[n] != ' ' {
			return false
		}
		s = s[n+1:]
		n = lettersIn(s)
		switch {
		case !isTimeUnit(s[:n]):
			return false
		case n == len(s):
			return true
		case s[n] != ' ':
			return false
		}
		s = s[n+1:]
	}
}

func isTimeUnit(word string) bool {
	var buf [maxName]byte
	return timeUnits[strings.TrimSuffix(string(upper(&buf, word)), "S")]
}

var timeUnits = nameSet(`MICROSECOND MILLISECOND SECOND MINUTE HOUR DAY WEEK MONTH YEAR`)
