package server

import (
	"context"
	"database/sql/driver"
	"fmt"
	"io"
)

// QueryText returns what a query of our own finds, as text.
func (sc *Conn) QueryText(ctx context.Context, query string) ([][]string, error) {
	rows, err := sc.QueryContext(ctx, query, nil)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all [][]string
	values := make([]driver.Value, len(rows.Columns()))
	for {
		if err := rows.Next(values); err == io.EOF {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		row := make([]string, len(values))
		for i, v := range values {
			if b, ok := v.([]byte); ok {
				v = string(b)
			}
			row[i] = fmt.Sprint(v)
		}
		all = append(all, row)
	}
}

// mostOwn is how many statements of ours a connection keeps.
const mostOwn = 16

// QueryOwn returns the row that a query of our own finds, by a statement that the connection keeps. What the server has forgotten
// is prepared again.
func (sc *Conn) QueryOwn(ctx context.Context, query string, args []driver.NamedValue) ([]driver.Value, error) {
	ss, there := sc.own[query]
	if there {
		row, err := ss.queryRow(ctx, args)
		if isStale := sc.cfg.Engine.IsStale; err == nil || isStale == nil || !isStale(err) {
			return row, err
		}
		delete(sc.own, query)
		ss.Close() // pgx knows it by its text, and would take it for prepared
	}
	ss, err := sc.PrepareStmt(ctx, query)
	if err != nil {
		return nil, err
	}
	if len(sc.own) < mostOwn {
		if sc.own == nil {
			sc.own = make(map[string]*Stmt)
		}
		sc.own[query] = ss
	} else {
		defer ss.Close()
	}
	return ss.queryRow(ctx, args)
}

// queryRow returns the only row of a query.
func (ss *Stmt) queryRow(ctx context.Context, args []driver.NamedValue) ([]driver.Value, error) {
	rows, err := ss.QueryContext(ctx, args)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	row := make([]driver.Value, len(rows.Columns()))
	if err := rows.Next(row); err != nil {
		return nil, err
	}
	if err := rows.Next(make([]driver.Value, len(row))); err != io.EOF {
		return nil, err
	}
	return row, nil
}
