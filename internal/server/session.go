package server

// A Session is the server's side of a connection. The zero Session is one that is
// not known.
type Session struct {
	ID     string // the server's number for it
	Client string // the client's address, where numbers may come again
}
