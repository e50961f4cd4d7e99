package fakedriver

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strings"
)

// stmt has the methods of all optional interfaces; programs see a subset.
type stmt struct {
	c     *conn
	query string
}

func (s *stmt) call(ctx context.Context, method string, args ...any) error {
	return s.c.s.call(ctx, s.c.id, "stmt."+method, args...)
}

func (s *stmt) NumInput() int {
	s.call(noContext, "NumInput")
	if strings.Contains(s.query, "anyargs") {
		return -1
	}
	return strings.Count(s.query, "?")
}

func (s *stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return s.exec(s.call(ctx, "ExecContext", s.query, args))
}

func (s *stmt) Exec(args []driver.Value) (driver.Result, error) {
	return s.exec(s.call(noContext, "Exec", s.query, args))
}

func (s *stmt) exec(err error) (driver.Result, error) {
	if err != nil {
		return nil, err
	}
	return &result{s.c}, s.c.follow(s.query)
}

func (s *stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return s.rows(s.call(ctx, "QueryContext", s.query, args))
}

func (s *stmt) Query(args []driver.Value) (driver.Rows, error) {
	return s.rows(s.call(noContext, "Query", s.query, args))
}

func (s *stmt) rows(err error) (driver.Rows, error) {
	if err != nil {
		return nil, err
	}
	return newRows(s.c, s.query), nil
}

func (s *stmt) Close() error { return s.call(noContext, "Close") }

func (s *stmt) CheckNamedValue(nv *driver.NamedValue) error {
	return check(nv, s.call(noContext, "CheckNamedValue", nv.Ordinal, nv.Name, nv.Value))
}

func (s *stmt) ColumnConverter(index int) driver.ValueConverter { return converter{s, index} }

// converter is a column that takes strings in capitals, no bool, and whatever
// else the default conversion takes.
type converter struct {
	s     *stmt
	index int
}

func (c converter) ConvertValue(v any) (driver.Value, error) {
	if err := c.s.call(noContext, "ConvertValue", c.index, v); err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case string:
		return strings.ToUpper(v), nil
	case bool:
		return nil, fmt.Errorf("column %d does not take %v", c.index, v)
	case uint8:
		return v, nil // which is not a driver.Value
	}
	return driver.DefaultParameterConverter.ConvertValue(v)
}
