package pgxfold

import (
	"context"
	"database/sql/driver"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/calmdocs/dblocker/internal/postgres"
	"github.com/calmdocs/dblocker/internal/server"
)

func init() { postgres.UseFolder(folder{}) }

// A folder is a [postgres.Folder] for connections of stdlib.
type folder struct{}

// A state is what is known of a connection. Who has the connection uses it.
type state struct {
	off   bool                                    // nothing is folded
	first map[string]*pgconn.StatementDescription // statements of ours, by their texts
	stmts map[string]*pgconn.StatementDescription // those of the program
	eqb   pgx.ExtendedQueryBuilder
}

const (
	stateKey  = "github.com/calmdocs/dblocker/pgxfold"
	mostFirst = 32  // statements of ours are kept,
	mostStmts = 256 // and of the program's, on a connection
)

// stateOf returns the state of a connection, if it is one of stdlib.
func stateOf(ci driver.Conn) (c *pgx.Conn, s *state) {
	sc, ok := ci.(*stdlib.Conn)
	if !ok || sc.Conn().IsClosed() {
		return nil, nil
	}
	c = sc.Conn()
	data := c.PgConn().CustomData()
	if s, ok = data[stateKey].(*state); !ok {
		cfg := c.Config()
		s = &state{off: cfg.DefaultQueryExecMode != pgx.QueryExecModeCacheStatement || cfg.Tracer != nil}
		data[stateKey] = s
	}
	return c, s
}

// Folds implements [postgres.Folder]. What the program has configured otherwise for all statements, or wants to be told of, is left to
// stdlib.
func (folder) Folds(ci driver.Conn) bool {
	_, s := stateOf(ci)
	return s != nil && !s.off
}

// Leave implements [postgres.Folder].
func (folder) Leave(ci driver.Conn) {
	if _, s := stateOf(ci); s != nil {
		s.off = true
	}
}

// Exec implements [postgres.Folder].
func (folder) Exec(ctx context.Context, ci driver.Conn, f *postgres.Fold) (driver.Result, server.Folded, error) {
	if len(f.QueryArgs) == 0 { // pgx sends it as several statements, perhaps
		return nil, server.NotFolded, nil
	}
	r, did, err := start(ctx, ci, f, nil)
	if r == nil {
		return nil, did, err
	}
	defer r.pipeline.Close()
	tag, err := r.result.Close()
	if err == nil {
		err = r.pipeline.Close()
	}
	if err != nil && r.isStale(err) {
		return nil, server.HadOnly, nil
	}
	return driver.RowsAffected(tag.RowsAffected()), server.HadAndRan, err
}

// Query implements [postgres.Folder].
func (folder) Query(ctx context.Context, ci driver.Conn, f *postgres.Fold) (driver.Rows, server.Folded, error) {
	if !canMakeRows {
		return nil, server.NotFolded, nil
	}
	r, did, err := start(ctx, ci, f, resultFormats)
	if r == nil {
		return nil, did, err
	}
	rows := &rows{Rows: pgx.RowsFromResultReader(r.conn.TypeMap(), r.result), pipeline: r.pipeline}
	more := rows.Next() // as stdlib does
	if err := rows.Err(); err != nil {
		rows.Close()
		if r.isStale(err) {
			return nil, server.HadOnly, nil
		}
		return nil, server.HadAndRan, err
	}
	return makeRows(ci.(*stdlib.Conn), rows, more), server.HadAndRan, nil
}

// A run is a statement that is behind its locks.
type run struct {
	conn     *pgx.Conn
	state    *state
	query    string
	pipeline *pgconn.Pipeline
	result   *pgconn.ResultReader
}

// start sends both statements, and returns when the first is done and the second has begun to answer. Without a run that has
// come to nothing.
func start(ctx context.Context, ci driver.Conn, f *postgres.Fold, formats pgx.QueryResultFormatsByOID) (*run, server.Folded, error) {
	c, s := stateOf(ci)
	if s == nil || s.off || ctx.Err() != nil {
		return nil, server.NotFolded, nil
	}
	first, second := s.prepareFirst(ctx, c, f.First), s.prepare(ctx, c, f.Query)
	if first == nil || second == nil || len(second.ParamOIDs) != len(f.QueryArgs) {
		return nil, server.NotFolded, nil
	}
	keys := make([]any, len(f.Args))
	for i, key := range f.Args {
		keys[i] = key
	}
	var locks pgx.ExtendedQueryBuilder
	if err := locks.Build(c.TypeMap(), first, keys); err != nil {
		return nil, server.NotFolded, nil
	}
	args := make([]any, len(f.QueryArgs))
	for i, nv := range f.QueryArgs {
		if isOption(nv.Value) {
			return nil, server.NotFolded, nil
		}
		args[i] = nv.Value
	}
	if err := s.eqb.Build(c.TypeMap(), second, args); err != nil {
		return nil, server.NotFolded, nil // stdlib has its own words for it
	}
	r := &run{conn: c, state: s, query: f.Query}
	if formats != nil {
		s.eqb.ResultFormats = s.eqb.ResultFormats[:0]
		for _, fd := range second.Fields {
			s.eqb.ResultFormats = append(s.eqb.ResultFormats, formats[fd.DataTypeOID])
		}
	}
	r.pipeline = c.PgConn().StartPipeline(ctx)
	r.pipeline.SendQueryStatement(first, locks.ParamValues, locks.ParamFormats, locks.ResultFormats)
	r.pipeline.SendQueryStatement(second, s.eqb.ParamValues, s.eqb.ParamFormats, s.eqb.ResultFormats)
	if err := r.pipeline.Sync(); err != nil {
		r.pipeline.Close()
		if pgconn.SafeToRetry(err) {
			return nil, server.NotFolded, nil
		}
		return nil, server.FoldFailure, err
	}
	return r.await()
}

// await returns when the first statement is done, and the second has begun to answer.
func (r *run) await() (*run, server.Folded, error) {
	if _, err := r.next(); err != nil {
		r.pipeline.Close()
		switch {
		case r.isStale(err): // the server has forgotten it
			return nil, server.NotFolded, nil
		case r.conn.IsClosed(): // the server answers for both at once, so this may be the end of either
			return nil, server.HadAndRan, err
		}
		return nil, server.FoldFailure, err
	}
	result, err := r.next()
	if err != nil {
		r.pipeline.Close()
		if r.isStale(err) {
			return nil, server.HadOnly, nil
		}
		return nil, server.HadAndRan, err
	}
	r.result = result
	return r, server.HadAndRan, nil
}

// next returns the next result of the pipeline.
func (r *run) next() (*pgconn.ResultReader, error) {
	results, err := r.pipeline.GetResults()
	if err != nil {
		return nil, err
	}
	result, ok := results.(*pgconn.ResultReader)
	if !ok {
		return nil, errors.New("pgxfold: the pipeline has no result where one is expected")
	}
	return result, nil
}

// isStale tells of an error whether the server does not know a statement any more, or as another; then nothing was done by it. They are
// prepared anew when they are used again.
func (r *run) isStale(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	switch {
	case pg.Code == "26000": // which is of all
		r.state.forget()
		return true
	case pg.Code == "0A000" && pg.Routine == "RevalidateCachedQuery":
		delete(r.state.stmts, r.query)
		r.conn.Deallocate(context.Background(), nameOf(r.query))
		return true
	}
	return false
}
