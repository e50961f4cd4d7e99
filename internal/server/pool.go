package server

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// A Pool has the server connections of an open handle.
type Pool struct {
	Slots *rwlock.Lock // one for each connection that may be drawn; nil: no limit

	inner     innerPool
	shown     sync.Once   // the sql.DB is, to the program
	connected atomic.Bool // the first connection has been drawn, or is being opened
}

// Open prepares the pool for its use, and opens no connection.
func (p *Pool) Open(c *Connector, limits Limits) {
	p.inner.connector, p.inner.limits = c, limits
	p.inner.shelf.handed, p.inner.shelf.firstFirst = make(chan *Conn), c.IsLocal
	if !limits.mayShelve() {
		p.inner.shelf.wants()
	}
	if !c.IsLocal || !limits.mayBeLone() {
		p.inner.db()
	}
}

// DB returns the sql.DB that has the connections. From then on all are there, and none on the shelf.
func (p *Pool) DB() *sql.DB {
	p.shown.Do(p.inner.shelf.wants)
	return p.inner.db()
}

// Stats returns the statistics of the connections.
func (p *Pool) Stats() sql.DBStats {
	st := p.inner.db().Stats()
	free := min(p.inner.shelf.len(), st.InUse)
	st.InUse, st.Idle = st.InUse-free, st.Idle+free
	return st
}

// Peek is Stats where there is no need for a sql.DB.
func (p *Pool) Peek() sql.DBStats {
	if p.HasDB() {
		return p.Stats()
	}
	p.inner.mu.Lock()
	defer p.inner.mu.Unlock()
	switch {
	case p.inner.lone == nil:
		return sql.DBStats{}
	case p.inner.out:
		return sql.DBStats{OpenConnections: 1, InUse: 1}
	}
	return sql.DBStats{OpenConnections: 1, Idle: 1}
}

// HasDB tells whether there is need for one already.
func (p *Pool) HasDB() bool { return p.inner.made.Load() != nil }

// Limits returns those of the pool.
func (p *Pool) Limits() Limits { return p.inner.limits }

// IsConnected tells whether a connection has been drawn, or is being opened as the first.
func (p *Pool) IsConnected() bool { return p.connected.Load() }

// ClaimFirst lets the caller open the first connection, and nobody else; unless there was one.
func (p *Pool) ClaimFirst() bool { return p.connected.CompareAndSwap(false, true) }

// CloseIdle closes the connections that nobody uses, and returns how many are left, or are being opened.
func (p *Pool) CloseIdle() (left int) {
	db := p.inner.db()
	p.inner.shelf.wants()
	defer p.inner.shelf.wantsNoMore()
	db.SetMaxIdleConns(0)
	opens := p.inner.opensLone() // first: from then on the sql.DB counts it
	if left = db.Stats().OpenConnections; opens {
		left++
	}
	db.SetMaxIdleConns(p.inner.limits.MaxIdleConns)
	return left
}

func (p *Pool) Close() error { return p.inner.close() }

// Draw takes a server connection out of the pool, for the holder of slot. See ConnectFor, whose user is the one whose turn it is.
func (p *Pool) Draw(ctx context.Context, slot *rwlock.Hold, w rwlock.Wait) (d Lease, err error) {
	if p.Slots != nil {
		slot.Kind = rwlock.Session // until it is given back, whatever it is used for
		if err := p.Slots.Acquire(ctx, rwlock.Shared, slot, w); err != nil {
			return Lease{}, err
		}
	}
	defer func() {
		if d.Conn == nil { // also when the inner driver panics
			slot.Release()
		}
	}()
	return p.ConnectFor(ctx, w.Turn)
}

// DrawIdle is Draw where a connection is free at once. It opens none for the pool: then it reports false.
func (p *Pool) DrawIdle(ctx context.Context, slot *rwlock.Hold) (d Lease, ok bool, err error) {
	d, err = p.Draw(context.WithValue(ctx, idleOnly{}, true), slot, rwlock.Wait{})
	if err == errNoneIdle || errors.Is(err, rwlock.ErrTimeout) {
		return Lease{}, false, nil
	}
	return d, err == nil, err
}

// idleOnly is the key of what a context has that no connection is to be opened with: the inner pool opens one only when it has none that is free.
type idleOnly struct{}

var errNoneIdle = errors.New("no connection is idle")

// Connect takes one that has no lock of the engine any more, where there are no slots.
func (p *Pool) Connect(ctx context.Context) (Lease, error) { return p.ConnectFor(ctx, "") }

// ConnectFor is Connect for an operation of a user, if that is not "": it prefers the connection on which the lock of the user rests. What rests
// on the one that it takes it leaves there.
//
// It relies on the pool to leave a connection alone while it is out, so
// that it may be used after the callback in which Raw shows it; to enter Raw for
// every row would cost more than many a driver needs to fetch one.
func (p *Pool) ConnectFor(ctx context.Context, user string) (Lease, error) {
	for {
		d, err := p.drawOne(ctx, user)
		if err != nil || !d.MayBeStale {
			return d, err
		}
		if d.Conn.HasFailed() { // as it gave up a lock
			d.Discard()
			continue
		}
		if err := d.reset(ctx); !errors.Is(err, driver.ErrBadConn) {
			return d, nil // as database/sql, to which no other error matters
		}
	}
}

func (p *Pool) drawOne(ctx context.Context, user string) (Lease, error) {
	d, err := p.inner.draw(ctx, user)
	if err != nil {
		Raise(err)
		return Lease{}, err
	}
	d.Conn.Claim()
	if user == "" {
		d.Conn.Settle()
	}
	if !p.connected.Load() {
		p.connected.Store(true)
	}
	if d.MayBeStale, d.Conn.used = d.Conn.used, true; !d.MayBeStale {
		p.inner.connector.Host.Drawn()
	}
	return d, nil
}
