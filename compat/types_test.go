package compat

import (
	"database/sql"
	"fmt"
	"strings"
	"time"
)

// A columnType is a type of an engine with values worth trying, as SQL literals:
// extremes, and what has no equal in Go. NULL is tried for every type.
type columnType struct {
	name   string
	values []string
}

// destinations are what a value is scanned into.
var destinations = []func() any{
	to[any], to[string], to[[]byte], to[sql.RawBytes],
	to[int64], to[uint64], to[int8], to[float64], to[float32], to[bool], to[time.Time],
	to[sql.NullString], to[sql.NullInt64], to[sql.NullFloat64], to[sql.NullBool], to[sql.NullTime], to[sql.Null[any]],
	to[*string], to[named], to[chan int],
}

func to[T any]() any { return new(T) }

// stepColumnTypes reads every value of every type, by a query without arguments
// and by one with them: for many drivers these are different protocols.
func stepColumnTypes(s *session) {
	s.makeTypes()
	for c, t := range s.types {
		first, last := 1000*c, 1000*c+len(t.values)
		column := fmt.Sprintf("SELECT c%d FROM types WHERE id ", c)
		s.read(t.name, func() (*sql.Rows, error) {
			return s.db.QueryContext(s.ctx, fmt.Sprintf("%s BETWEEN %d AND %d ORDER BY id", column, first, last))
		}, destinations)
		s.read(t.name+", with arguments", func() (*sql.Rows, error) {
			return s.db.QueryContext(s.ctx, s.bind(column+" BETWEEN ? AND ? ORDER BY id"), first, last)
		}, destinations)
	}
	s.query(s.db, "SELECT * FROM types WHERE id < 1000 ORDER BY id")
}

// makeTypes makes one table with a column for each type, and a row for each
// value in which the other columns are NULL.
func (s *session) makeTypes() {
	for _, create := range s.ownTypes {
		s.mustExec(create)
	}
	columns := make([]string, len(s.types))
	for c, t := range s.types {
		columns[c] = fmt.Sprintf("c%d %s NULL", c, t.name)
	}
	s.mustExec(fmt.Sprintf("CREATE TABLE types (id %s PRIMARY KEY, %s)", s.words.integer, strings.Join(columns, ", ")))
	for c, t := range s.types {
		for v, value := range append([]string{"NULL"}, t.values...) {
			s.mustExec(fmt.Sprintf("INSERT INTO types (id, c%d) VALUES (%d, %s)", c, 1000*c+v, value))
		}
	}
}

// mustExec is for what has to work on the bare driver, or the step shows nothing.
func (s *session) mustExec(query string) {
	s.Helper()
	if _, err := s.db.ExecContext(s.ctx, query); err != nil {
		s.Fatalf("%s: %v", query, err)
	}
}
