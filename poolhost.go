package dblocker

import (
	"context"
	"time"

	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/lost"
	"github.com/calmdocs/dblocker/internal/mysql"
	"github.com/calmdocs/dblocker/internal/redact"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqlite"
)

var _ server.Host = (*pool)(nil)

// Connect implements [server.Host].
func (p *pool) Connect(ctx context.Context, w rwlock.Wait, connect func(beside bool) error) error {
	return explainConns(p.conns.Connect(ctx, w, connect))
}

// explainConns says which wait has ended before there was a connection.
func explainConns(err error) error {
	e, ok := err.(*gate.ConnsError)
	switch {
	case !ok:
		return err
	case e.Err == rwlock.ErrClosed:
		return errClosed
	case e.Err == rwlock.ErrTimeout:
		e.Err = ErrLockTimeout
	}
	return &LockError{
		Waited: e.Waited,
		Err:    e.Err,
		what:   "another connection to the SQLite database, which is opened as the first or closed as the last",
	}
}

// Disconnect implements [server.Host].
func (p *pool) Disconnect(disconnect func() error) error { return p.conns.Disconnect(disconnect) }

// LeaveOpening implements [server.Host]: what the caller has of the gate is kept until the connection
// is open.
func (p *pool) LeaveOpening() (opened func()) { return p.gate.LeaveOpening() }

// SetUp implements [server.Host].
func (p *pool) SetUp(ctx context.Context, sc *server.Conn, beside bool) error {
	if setUp := p.config.dialect.SetUp; setUp != nil {
		journal := ""
		if beside {
			journal = sqlite.JournalBeside(p.gate, p.inner)
		}
		journal, err := setUp(ctx, p.inner, sc, journal)
		if err != nil {
			return err
		}
		p.gate.Opened(journal)
	}
	if p.opensAttached {
		if err := p.attached.Look(ctx, sc); err != nil && ctx.Err() != nil {
			return err
		}
	}
	return nil
}

// Drawn implements [server.Host].
func (p *pool) Drawn() { p.database.Look() }

// Closing implements [server.Host].
func (p *pool) Closing() {
	if s, ok := p.inner.(*sqlite.Connector); ok {
		s.LetGo()
	}
}

// Closed implements [server.Host].
func (p *pool) Closed(sc *server.Conn) { p.attached.Closed(sc) }

// ExplainConnect implements [server.Host]. No error shows the DSN's password.
func (p *pool) ExplainConnect(err error) error {
	err = explainStub(err)
	if dsn := p.dsn; dsn != nil {
		return redact.DialError(err, *dsn, mysql.ErrorNumber(err) != 0)
	}
	return err
}

// ExplainTimeout implements [server.Host].
func (p *pool) ExplainTimeout(waited time.Duration) error {
	return &LockError{Waited: waited, Err: ErrLockTimeout, what: "a new connection, for which the inner driver has not returned from Connect"}
}

// A lostServer is a pool as a [lost.Server].
type lostServer pool

func (p *lostServer) Reserve() lost.Reserved { return p.connector.Reserve() }
func (p *lostServer) Retain()                { (*pool)(p).retain() }
func (p *lostServer) Release()               { (*pool)(p).release() }
