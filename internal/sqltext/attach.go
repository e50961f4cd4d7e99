package sqltext

import "strings"

// An Attach is what an ATTACH of SQLite's names as its file: a File, as it is written between quotes or as a bare word,
// or a Param. SQLite takes any name there for a string.
type Attach struct {
	File   string
	Param  string // with its sigil: ?, ?1, :name, @name, $name
	Before int    // how many parameters stand before Param in the string
}

// Attaches returns the ATTACH statements in a text of SQLite's, but those whose file is the value of an expression.
func Attaches(query string) (found []Attach) {
	l := lexer{dialect: SQLite, text: query}
	params := 0
	for first := true; ; {
		t := l.next()
		switch {
		case t.kind == end || t.kind == broken:
			return found
		case first && t.word == "ATTACH":
			if a, ok := l.attach(); ok {
				a.Before = params
				found = append(found, a)
			}
		case l.param(t) != "":
			params++
		}
		first = t.is(';')
	}
}

// attach reads what stands behind ATTACH: [DATABASE] file AS. The lexer is a copy.
func (l lexer) attach() (a Attach, ok bool) {
	t := l.next()
	if t.kind == word && sameName(t.name, "DATABASE") {
		t = l.next()
	}
	if a.Param = l.param(t); a.Param == "" {
		a.File = l.unquote(t)
	}
	return a, a != Attach{} && l.next().word == "AS"
}

// param returns the parameter of SQLite's that begins with t, which is the last token, and passes over it; "" if none
// does.
func (l *lexer) param(t token) string {
	start := l.start
	switch {
	case t.is('?'):
		l.skipDigits()
	case t.kind != literal || strings.IndexByte(":@$#", l.text[start]) < 0:
		return ""
	}
	return l.text[start:l.pos]
}

// unquote returns the string or name that t, which is the last token, stands for; "" if it is something else.
func (l *lexer) unquote(t token) string {
	switch quote := l.text[l.start : l.start+1]; {
	case t.kind == word && sameName(t.name, "NULL"):
		return ""
	case t.kind == word, quote == "[":
		return t.name
	default:
		return strings.ReplaceAll(t.name, quote+quote, quote)
	}
}
