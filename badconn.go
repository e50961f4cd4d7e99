package dblocker

import (
	"context"

	"github.com/calmdocs/dblocker/internal/postgres"
)

// distrust is for lib/pq, which answers [driver.ErrBadConn], that nothing was sent, also when the connection
// ends in the middle of a statement. The server may go on with that, so it must not be sent again
// before the session has ended.
func (sc *serverConn) distrust() {
	sc.mayHaveSent = true
	sc.peek = postgres.Peek(sc.ci)
}

// hasEnded tells whether the server has ended the session while the connection lay in the pool, if
// that can be known.
func (d draw) hasEnded() (ended, known bool) {
	if !d.mayBeStale || d.sc.peek == nil {
		return false, false
	}
	return d.sc.peek()
}

// sentNothing tells whether a call that has ended with [driver.ErrBadConn] has sent nothing, so that its connection
// can be replaced. Else the session is lost with what the call holds. If the connection may have
// been stale, only the server knows; the error is that of asking in vain, and is what the next
// connection would come to.
func (c *conn) sentNothing(ctx context.Context, mayBeStale bool) (bool, error) {
	sc := c.drawn.sc
	if !sc.mayHaveSent || !sc.lost() {
		return true, nil
	}
	if !mayBeStale {
		return false, nil
	}
	return c.pool.lost.IsGone(ctx, sc.session)
}
