package pgxfold

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func (s *state) forget() { s.first, s.stmts = nil, nil }

// nameOf names a prepared statement of ours. pgx and stdlib have other names.
func nameOf(query string) string {
	hash := sha256.Sum256([]byte(query))
	return fmt.Sprintf("dblocker_%x", hash[:16])
}

// prepareFirst returns a statement of ours, nil if it cannot be had.
func (s *state) prepareFirst(ctx context.Context, c *pgx.Conn, query string) *pgconn.StatementDescription {
	sd := s.first[query]
	if sd == nil && len(s.first) < mostFirst {
		if sd = describe(ctx, c, query); sd == nil {
			return nil
		}
		if s.first == nil {
			s.first = make(map[string]*pgconn.StatementDescription)
		}
		s.first[query] = sd
	}
	return sd
}

// prepare returns a statement of the program; nil if it cannot be had. It is beside the one that stdlib would keep: that is not to be had
// from there.
func (s *state) prepare(ctx context.Context, c *pgx.Conn, query string) *pgconn.StatementDescription {
	sd := s.stmts[query]
	if sd == nil {
		if len(s.stmts) >= mostStmts {
			s.oust(ctx, c)
		}
		if sd = describe(ctx, c, query); sd == nil {
			sd = unprepared
		}
		if s.stmts == nil {
			s.stmts = make(map[string]*pgconn.StatementDescription)
		}
		s.stmts[query] = sd
	}
	if sd == unprepared {
		return nil
	}
	return sd
}

// oust makes room for a statement.
func (s *state) oust(ctx context.Context, c *pgx.Conn) {
	for query, sd := range s.stmts {
		delete(s.stmts, query)
		if sd != unprepared {
			c.PgConn().Deallocate(ctx, sd.Name)
		}
		return
	}
}

// unprepared is a statement that could not be prepared.
var unprepared = new(pgconn.StatementDescription)

// describe prepares a statement; it returns nil if that fails, for which stdlib has its own words. What has our name already was
// forgotten by us, or by the server.
func describe(ctx context.Context, c *pgx.Conn, query string) *pgconn.StatementDescription {
	name := nameOf(query)
	sd, err := c.PgConn().Prepare(ctx, name, query, nil)
	if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) && pg.Code == "42P05" {
		if c.PgConn().Deallocate(ctx, name) == nil {
			sd, err = c.PgConn().Prepare(ctx, name, query, nil)
		}
	}
	if err != nil {
		return nil
	}
	return sd
}

// isOption tells whether pgx takes a first argument for something else.
func isOption(arg any) bool {
	switch arg.(type) {
	case pgx.QueryExecMode, pgx.QueryRewriter, pgx.QueryResultFormats, pgx.QueryResultFormatsByOID:
		return true
	}
	return false
}
