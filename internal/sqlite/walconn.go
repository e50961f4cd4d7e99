package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"log/slog"

	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/server"
)

// A walConnector opens connections for a WALReader, and waits for nobody before that.
type walConnector interface{ open() (walConn, error) }

// A walConn is a connection outside of the pool.
type walConn interface {
	read() (driver.Rows, error) // of any table, to begin a read
	close()
}

// A walServer is the connector of the handle's pool. The program has a connection open, beside
// which others are opened, unless it was closed just now.
type walServer struct {
	connector *server.Connector
	logger    *slog.Logger
}

// open opens a connection. A panic of the program's hook is not for the program's call, which
// is about something else.
func (s *walServer) open() (_ walConn, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("dblocker: panic while a connection was opened: %v", p)
		}
	}()
	c := serverWALConn{logger: s.logger}
	c.sc, err = s.connector.Open(context.Background(), rwlock.Wait{}, func(ctx context.Context, sc *server.Conn, _ bool) error {
		if _, err := sc.ExecContext(ctx, "PRAGMA busy_timeout = 0", nil); err != nil {
			return err
		}
		c.stmt, err = sc.PrepareStmt(ctx, "SELECT 1 FROM sqlite_master")
		return err
	})
	if err != nil {
		return nil, err
	}
	return &c, nil
}

type serverWALConn struct {
	sc     *server.Conn
	stmt   *server.Stmt
	logger *slog.Logger
}

func (c *serverWALConn) read() (driver.Rows, error) {
	return c.stmt.QueryContext(context.Background(), nil)
}

func (c *serverWALConn) close() {
	server.Contain(c.logger, func() { c.stmt.Close() })
	c.sc.Close()
}
