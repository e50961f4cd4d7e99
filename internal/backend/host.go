package backend

import (
	"context"
	"database/sql/driver"
	"time"

	"github.com/calmdocs/dblocker/internal/drivers"
	"github.com/calmdocs/dblocker/internal/engines"
	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/lost"
	"github.com/calmdocs/dblocker/internal/redact"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/server"
)

var (
	_ server.Host  = (*host)(nil)
	_ gate.Visitor = (*visitor)(nil)
	_ lost.Server  = (*lostServer)(nil)
)

// A host is a Backend as the [server.Host] of its connections.
type host Backend

func (b *host) Connect(ctx context.Context, w rwlock.Wait, connect func(beside bool) error) (err error) {
	if room := b.cfg.Room; room != nil {
		room.Come()
		opened := false
		defer func() {
			if !opened || err != nil { // also when the inner driver panics
				room.Gone()
			}
		}()
		err = b.connect(ctx, w, connect)
		opened = true
		return err
	}
	return b.connect(ctx, w, connect)
}

func (b *host) connect(ctx context.Context, w rwlock.Wait, connect func(beside bool) error) error {
	if b.forgotten.Load() {
		return driver.ErrBadConn
	}
	if b.reaches {
		connect = (*Backend)(b).amongProcesses(ctx, w, connect)
	}
	err := b.conns.Connect(ctx, w, connect)
	if e, ok := err.(*gate.ConnsError); ok {
		return b.cfg.ExplainConns(e)
	}
	return err
}

func (b *host) Disconnect(disconnect func() error) error {
	if room := b.cfg.Room; room != nil {
		defer room.Gone()
	}
	if !b.reaches {
		return b.conns.Disconnect(disconnect)
	}
	return b.conns.DisconnectKnowing(func(alone bool) error {
		if alone {
			defer (*Backend)(b).awaitOpening().Release()
		}
		return disconnect()
	})
}

// What the caller has of the gate is kept until the connection is open.
func (b *host) LeaveOpening() (opened func()) { return b.Gate.LeaveOpening() }

func (b *host) SetUp(ctx context.Context, sc *server.Conn, beside bool) error {
	if b.Scope != nil {
		if err := b.Scope.Check(ctx, sc, b.connector.Beside); err != nil {
			return err
		}
	}
	if setUp := b.cfg.Servers.Engine.SetUp; setUp != nil {
		journal := ""
		if beside {
			journal = b.sqlite.JournalBeside(b.Gate)
		}
		journal, err := setUp(ctx, b.cfg.Inner, sc, journal)
		if err != nil {
			return err
		}
		b.Gate.Opened(journal)
		if err := (*Backend)(b).SetSynchronous(ctx, sc, journal); err != nil {
			return err
		}
	}
	if b.opensAttached {
		if err := b.Attached.Look(ctx, sc); err != nil && ctx.Err() != nil {
			return err
		}
	}
	return nil
}

func (b *host) Drawn() { b.Database.Look() }

func (b *host) Closing() { b.sqlite.LetGo() }

func (b *host) Closed(sc *server.Conn) { b.Attached.Closed(sc) }

// No error shows the DSN's password.
func (b *host) ExplainConnect(err error) error {
	err = drivers.ExplainStub(err)
	if dsn := b.cfg.DSN; dsn != nil {
		err = redact.DialError(err, *dsn, engines.FromServer(err))
	}
	if explain := b.cfg.ExplainDial; explain != nil {
		err = explain(err)
	}
	return err
}

func (b *host) ExplainTimeout(waited time.Duration) error { return b.cfg.ExplainTimeout(waited) }

// A visitor is a Backend as a [gate.Visitor], at the gates of its files.
type visitor Backend

func (b *visitor) Rest() { b.WALReader.Rest() }

func (b *visitor) CloseIdle() (left int) {
	return b.WALReader.Close(false) + b.Servers.CloseIdle()
}

// A lostServer is a Backend as a [lost.Server].
type lostServer Backend

func (b *lostServer) Reserve() lost.Reserved { return b.connector.Reserve() }
func (b *lostServer) Retain()                { (*Backend)(b).Retain() }
func (b *lostServer) Release()               { (*Backend)(b).Release() }
