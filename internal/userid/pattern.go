package userid

import (
	"net/url"
	"strings"
)

// NamesWith returns the names in a pattern that the mark is a part of, with what stands around it.
func NamesWith(pattern, mark string) (names []string) {
	outside := func(r rune) bool { return strings.ContainsRune("/\\:?&=@()'\" ,;#", r) }
	for _, name := range strings.FieldsFunc(pattern, outside) {
		if strings.Contains(name, mark) {
			names = append(names, name)
		}
	}
	return names
}

// UserOfPath returns the user whose file a pattern has at the path, if it has one there.
func UserOfPath(pattern, mark, path string) (user string, ok bool) {
	n := strings.Count(pattern, mark)
	first := strings.Index(pattern, mark)
	length := len(path) - len(pattern) + n*len(mark)
	if n == 0 || length <= 0 || length%n != 0 || len(path) < first+length/n {
		return "", false
	}
	name := path[first : first+length/n]
	if strings.ReplaceAll(pattern, mark, name) != path {
		return "", false
	}
	return Decode(name)
}

// SchemasIn returns the schemas that the mark is in of the search_path in a DSN of PostgreSQL.
func SchemasIn(pattern, mark string) (schemas []string) {
	if text, err := url.QueryUnescape(pattern); err == nil {
		pattern = text
	}
	_, path, found := strings.Cut(pattern, "search_path")
	if !found {
		return nil
	}
	path = strings.ReplaceAll(strings.TrimLeft(path, "= '\""), ", ", ",")
	if end := strings.IndexAny(path, "&' "); end >= 0 {
		path = path[:end]
	}
	for _, schema := range strings.Split(path, ",") {
		if strings.Contains(schema, mark) {
			schemas = append(schemas, strings.Trim(schema, `"`))
		}
	}
	return schemas
}
