package backend

import (
	"context"
	"database/sql/driver"
	"errors"

	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/server"
)

// Aside calls f with a server connection beside those that the caller has: one of the pool if that can be had at once, else one
// that is opened for it. So it never waits for what the caller has.
func (b *Backend) Aside(ctx context.Context, f func(*server.Conn) error) error {
	return b.aside(ctx, f, func(slot *rwlock.Hold) (server.Lease, bool, error) {
		d, err := b.Servers.Draw(ctx, slot, rwlock.Wait{})
		if errors.Is(err, rwlock.ErrTimeout) {
			return d, false, nil
		}
		return d, err == nil, err
	})
}

// Look is Aside for who only looks: it opens no connection of the pool, which would be an event, and who looks may do so because of one.
func (b *Backend) Look(ctx context.Context, f func(*server.Conn) error) error {
	return b.aside(ctx, f, func(slot *rwlock.Hold) (server.Lease, bool, error) { return b.Servers.DrawIdle(ctx, slot) })
}

func (b *Backend) aside(ctx context.Context, f func(*server.Conn) error, draw func(slot *rwlock.Hold) (d server.Lease, ok bool, err error)) error {
	for {
		stale, err := b.asideOnce(ctx, f, draw)
		if !stale || !errors.Is(err, driver.ErrBadConn) || ctx.Err() != nil {
			return err
		}
	}
}

// asideOnce tells whether the connection was one that may have gone stale in the pool.
func (b *Backend) asideOnce(ctx context.Context, f func(*server.Conn) error, draw func(slot *rwlock.Hold) (d server.Lease, ok bool, err error)) (stale bool, err error) {
	var slot rwlock.Hold
	d, ok, err := draw(&slot)
	if err != nil {
		return false, err
	}
	if !ok {
		return false, b.besideAll(ctx, f)
	}
	defer slot.Release()
	err = driver.ErrBadConn
	defer func() { // also if the inner driver panics, or ends the goroutine
		if errors.Is(err, driver.ErrBadConn) || d.Conn.HasFailed() {
			d.Discard()
		} else {
			d.GiveBack()
		}
	}()
	err = f(d.Conn)
	return d.MayBeStale, err
}

func (b *Backend) besideAll(ctx context.Context, f func(*server.Conn) error) error {
	sc, err := b.connector.Beside(ctx)
	if err != nil {
		return err
	}
	defer sc.Close()
	if b.Scope != nil {
		if err := b.Scope.Check(ctx, sc, b.connector.Beside); err != nil {
			return err
		}
	}
	return f(sc)
}
