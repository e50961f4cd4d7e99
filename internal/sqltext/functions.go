package sqltext

import "strings"

// A functionList names the functions of an engine that do more than read although a SELECT may call them: they change
// data, take or release locks, start a transaction ID, or run SQL given as text. Names are in upper case.
type functionList struct {
	names    map[string]bool
	prefixes []string
	schemas  map[string]bool // of extensions whose functions do, or most of them
}

// writingFunctions is indexed by dialect. Generic has none, being the union of the others.
var writingFunctions = [...]functionList{
	SQLite:     sqliteFunctions,
	PostgreSQL: postgresFunctions,
	MySQL:      mysqlFunctions,
}

// nameSet makes a set of the names in a text.
func nameSet(names string) map[string]bool {
	m := make(map[string]bool)
	for _, name := range strings.Fields(names) {
		m[name] = true
	}
	return m
}

// writes reports whether the function called name, in whatever case, does more than read in dialect d. schema is "" if the
// call names none.
func (d Dialect) writes(schema, name string) bool {
	list := &writingFunctions[d]
	var buf [maxName]byte
	return schema != "" && list.schemas[string(upper(&buf, schema))] || list.has(name)
}

// has reports whether name, in whatever case, is in the list.
func (list *functionList) has(name string) bool {
	var buf [maxName]byte
	folded := upper(&buf, name)
	if list.names[string(folded)] {
		return true
	}
	for _, prefix := range list.prefixes {
		if len(folded) >= len(prefix) && string(folded[:len(prefix)]) == prefix {
			return true
		}
	}
	return false
}
