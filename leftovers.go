package dblocker

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/calmdocs/dblocker/internal/callers"
	"github.com/calmdocs/dblocker/internal/leftovers"
	"github.com/calmdocs/dblocker/internal/userid"
)

// What a handle is used for is noted while a test looks at it, see package dblockertest. Else it costs the look at a
// pointer: when a client connection is taken and given back, when a section begins and ends, and where a call has no user.

func init() {
	leftovers.PlaceOf = func(ctx context.Context, db interface {
		Conn(context.Context) (*sql.Conn, error)
	}) (*leftovers.Place, error) {
		c, _, err := connectorOf(ctx, db)
		if err != nil {
			return nil, err
		}
		return &c.leftovers, nil
	}
}

// noteTaken is for a client connection that database/sql has taken for the program.
func (c *conn) noteTaken() {
	w := c.db.leftovers.Load()
	if w == nil {
		return
	}
	if what, site := callers.Use(); what != "" {
		w.Take(c, what, site)
	}
}

// noteGiven is for one that goes back to the pool, or is closed.
func (c *conn) noteGiven() {
	if w := c.db.leftovers.Load(); w != nil {
		w.Give(c)
	}
}

// noteTaken is for the client connection of a handle with a database for each user, while it has none of a database.
func (tc *tenantConn) noteTaken() {
	w := tc.tenancy.c.leftovers.Load()
	if w == nil {
		return
	}
	if what, site := callers.Use(); what != "" {
		w.Take(tc, what, site)
	}
}

// noteEntered is for one that has one from now on, which is what is noted.
func (tc *tenantConn) noteEntered() {
	if w := tc.tenancy.c.leftovers.Load(); w != nil {
		w.Move(tc, tc.conn)
	}
}

// noteGiven is for one that goes back to the pool, or is closed.
func (tc *tenantConn) noteGiven() {
	if w := tc.tenancy.c.leftovers.Load(); w != nil {
		w.Give(tc)
	}
}

// noteKept is for one that goes back to the pool inside a transaction.
func (c *conn) noteKept() {
	if w := c.db.leftovers.Load(); w != nil {
		w.Rename(c, "a transaction that was begun in SQL is open; send COMMIT or ROLLBACK")
	}
}

// noteSection is for a section that is going to be begun.
func (s *section) noteSection(user string, req sectionRequest) {
	w := s.db.leftovers.Load()
	if w == nil {
		return
	}
	of := fmt.Sprintf("user %s", userid.Brief(user))
	switch {
	case req.all:
		of = "all users"
	case req.users != nil:
		of = fmt.Sprintf("the users %s", userid.BriefAll(req.users))
	}
	if req.tag != "" {
		of += fmt.Sprintf(" (%s)", printable(req.tag))
	}
	article := "a"
	if req.mode == Exclusive {
		article = "an"
	}
	w.Take(s, fmt.Sprintf("%s %v section of %s was not left, or is waited for; call its unlock, of a Store's handle its cancel", article, req.mode, of), callers.Site())
}

// noteLeft is for a section that has been released, or could not be begun.
func (s *section) noteLeft() {
	if w := s.db.leftovers.Load(); w != nil {
		w.Give(s)
	}
}

// noteBare is for a call without a user, also one that is refused for it.
func (c *handle) noteBare() {
	if w := c.leftovers.Load(); w != nil {
		w.Bare(callers.Site())
	}
}
