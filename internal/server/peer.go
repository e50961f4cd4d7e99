package server

// A Session is the server's side of a connection. The zero Session is one that is
// not known.
type Session struct {
	ID     string // the server's number for it
	Client string // the client's address, where numbers may come again
}

// A Peer is what is known of the server's side of a connection, if the engine can tell.
// It is found out when the connection is made.
type Peer struct {
	Session  Session
	IsClosed func() bool // for drivers without driver.Validator; else nil

	// MayHaveSent tells that driver.ErrBadConn does not mean that nothing was sent. Then
	// Peek tells, if it is not nil, of an idle connection whether the server has ended it.
	MayHaveSent bool
	Peek        func() (ended, known bool)
}
