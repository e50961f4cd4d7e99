package dblocker

import "context"

// lockSession is lock for a statement that concerns nothing but its session: whoever locks by
// hand must come to unlock. In a transaction and in a section it just runs, and of the
// gate it takes what any other would.
func (c *conn) lockSession(ctx context.Context, h *userHold, req request, byText Mode, s *section, id identity) error {
	if c.scope != nil {
		return c.scope.ended
	}
	nobody := identity{owner: id.owner}
	if s == nil {
		return c.lockOutside(ctx, h, req, nobody, byText)
	}
	if _, err := c.enterSection(s, h, id); err != nil {
		return err
	}
	return h.entered(id, c.lockOutside(ctx, h, req, nobody, byText))
}

// isStrengthened tells whether ctx asks for the exclusive lock, whatever a statement says.
func isStrengthened(ctx context.Context) bool {
	mode, err := modeFrom(ctx, Shared)
	return err == nil && mode == Exclusive
}
