package server

import "context"

// A Reserved is a connection beside the pool, to look after sessions that have lost theirs.
type Reserved struct {
	connector *Connector
	conn      *Conn // nil while there is none
}

// Reserve returns a connection that is opened when it is first used.
func (c *Connector) Reserve() *Reserved { return &Reserved{connector: c} }

// Survivors returns which of the sessions the server has not ended, and may help to end them. It
// returns in time even if the driver does not: some heed no context while they connect.
func (r *Reserved) Survivors(ctx context.Context, sessions []Session) ([]Session, error) {
	c, through := r.connector, r.conn
	var alive []Session
	conn, err := awaitDial(ctx, c.Config.Logger, 0, nil, func(ctx context.Context) (*Conn, error) {
		if through == nil {
			ci, err := c.dial(ctx)
			if err != nil {
				return nil, err
			}
			through = NewConn(ci, &c.Config)
		}
		left, err := c.Config.Engine.Survivors(ctx, through, sessions)
		alive = left
		return through, err
	})
	if r.conn = conn; err != nil {
		return nil, err
	}
	return alive, nil
}

// Beside opens a connection that is not of the pool, nor looked at by its host. The caller closes it.
func (c *Connector) Beside(ctx context.Context) (*Conn, error) {
	return awaitDial(ctx, c.Config.Logger, 0, nil, func(ctx context.Context) (*Conn, error) {
		ci, err := c.dial(ctx)
		if err != nil {
			return nil, err
		}
		return NewConn(ci, &c.Config), nil
	})
}

// Close closes the connection, if there is one. The next use opens another.
func (r *Reserved) Close() {
	if conn := r.conn; conn != nil {
		r.conn = nil
		conn.Close()
	}
}
