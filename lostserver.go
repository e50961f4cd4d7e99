package dblocker

import (
	"context"

	"github.com/calmdocs/dblocker/internal/lost"
	"github.com/calmdocs/dblocker/internal/server"
)

// A lostServer is a pool as a [lost.Server].
type lostServer pool

func (p *lostServer) Reserve() lost.Reserved { return &reserved{c: p.connector} }
func (p *lostServer) Retain()                { (*pool)(p).retain() }
func (p *lostServer) Release()               { (*pool)(p).release() }

// A reserved is a connection beside the inner pool, to look after lost sessions.
type reserved struct {
	c  *serverConnector
	sc *serverConn // nil while there is none
}

// Survivors implements [lost.Reserved]. Some drivers heed no context while they connect.
func (r *reserved) Survivors(ctx context.Context, sessions []server.Session) ([]server.Session, error) {
	c, through := r.c, r.sc
	var alive []server.Session
	sc, err := awaitDial(ctx, c.cfg.logger, 0, nil, func(ctx context.Context) (*serverConn, error) {
		if through == nil {
			ci, err := c.dial(ctx)
			if err != nil {
				return nil, err
			}
			through = newServerConn(ci, c.cfg)
		}
		left, err := c.cfg.dialect.survivors(ctx, through, sessions)
		alive = left
		return through, err
	})
	if r.sc = sc; err != nil {
		return nil, err
	}
	return alive, nil
}

// Close implements [lost.Reserved].
func (r *reserved) Close() {
	if sc := r.sc; sc != nil {
		r.sc = nil
		sc.Close()
	}
}
