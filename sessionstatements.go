package dblocker

import "github.com/calmdocs/dblocker/internal/locks"

// lockSession is lock for a statement that concerns nothing but its session: whoever locks by
// hand must come to unlock. In a transaction and in a section it just runs, and of the
// gate it takes what any other would.
func (c *conn) lockSession(op *operation, h *locks.Hold, req request, byText Mode, id locks.Identity) error {
	if c.scope != nil {
		return c.scope.ended
	}
	nobody := locks.Identity{Owner: id.Owner}
	if op.section == nil {
		return c.lockOutside(op, h, req, nobody, byText)
	}
	if _, err := c.enterSection(op.section, h, id); err != nil {
		return err
	}
	return h.Entered(id, c.lockOutside(op, h, req, nobody, byText))
}
