package dblocker

import (
	"context"
	"database/sql/driver"
	"fmt"
	"log/slog"

	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqlite"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// useWALReader gives the pool a WALReader if its handle may have one: a limit of
// connections leaves none for it, nor does a locking_mode that lets in only one; and what
// cannot write may not be let near the WAL.
func (p *pool) useWALReader(cfg *config, dsn *string) {
	if p.gate == nil || p.readOnly || cfg.limits.MaxOpenConns > 0 {
		return
	}
	if dsn == nil || sqltext.Contains(*dsn, "locking_mode") {
		return
	}
	p.walReader = sqlite.NewWALReader(p.gate, p, cfg.logger)
}

// A walConn is a connection of a WALReader, outside of the pool.
type walConn struct {
	sc     *server.Conn
	stmt   *server.Stmt
	logger *slog.Logger
}

// OpenWALConn implements [sqlite.WALConnector]: the program has a connection open, beside
// which others are opened, unless it was closed just now. A panic of the
// program's hook is not for the program's call, which is about something else.
func (p *pool) OpenWALConn() (_ sqlite.WALConn, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("dblocker: panic while a connection was opened: %v", p)
		}
	}()
	w := walConn{logger: p.config.logger}
	w.sc, err = p.connector.Open(context.Background(), rwlock.Wait{}, func(ctx context.Context, sc *server.Conn, _ bool) error {
		if _, err := sc.ExecContext(ctx, "PRAGMA busy_timeout = 0", nil); err != nil {
			return err
		}
		w.stmt, err = sc.PrepareStmt(ctx, "SELECT 1 FROM sqlite_master")
		return err
	})
	if err != nil {
		return nil, err
	}
	return &w, nil
}

// Read implements [sqlite.WALConn].
func (w *walConn) Read() (driver.Rows, error) { return w.stmt.QueryContext(context.Background(), nil) }

// Close implements [sqlite.WALConn].
func (w *walConn) Close() {
	server.Contain(w.logger, func() { w.stmt.Close() })
	w.sc.Close()
}

// makeWay ends the reads of the WALReaders, and lets none begin, while h has the gate
// for itself, if those would be in the way of the statement. Those of an ordinary write
// are for one of sqlite.WALReaderWrites only.
func (c *conn) makeWay(h *locks.Hold, ordinary bool) {
	g := h.Gate.Gate()
	if !h.Gate.IsAlone() || ordinary && g.Writes()%sqlite.WALReaderWrites != sqlite.WALReaderWrites-1 {
		return
	}
	g.Bar()
	c.pool.database.gate.Rest()
}
