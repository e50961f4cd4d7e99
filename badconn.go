package dblocker

import "context"

// sentNothing tells whether a call that has ended with [driver.ErrBadConn] has sent nothing, so that its connection
// can be replaced. Else the session is lost with what the call holds. If the connection may have
// been stale, only the server knows; the error is that of asking in vain, and is what the next
// connection would come to.
func (c *conn) sentNothing(ctx context.Context, mayBeStale bool) (bool, error) {
	sc := c.drawn.Conn
	if !sc.MayHaveSent || !sc.IsLost() {
		return true, nil
	}
	if !mayBeStale {
		return false, nil
	}
	return c.pool.lost.IsGone(ctx, sc.Session)
}
