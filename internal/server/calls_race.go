//go:build race

package server

// calls has the race detector see each call of the inner driver on a connection as a write, of which no two may come without that one
// knows of the other: a driver may have no state of its own that shows it, and it need not be that they meet. The detector reports the stacks
// of both. What Inner returns counts as called; to ask rows for their columns does not, which database/sql does beside other calls too.
type calls struct{ n int }

func (c *calls) note() { c.n++ }
