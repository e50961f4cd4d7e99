package testdb

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"strconv"
	"testing"
)

// A Server is a running server and the right to create databases on it.
type Server struct {
	Engine         *Engine
	Host           string
	Port           int
	User, Password string

	params  string      // of the DSN that named the server, as in "sslmode=disable"
	running func() bool // whether the server is up, as far as we know
}

// Addr is the server's host:port.
func (s *Server) Addr() string {
	return net.JoinHostPort(s.Host, strconv.Itoa(s.Port))
}

// URL leads to the server without choosing a database: a value for Engine.Env.
func (s *Server) URL() string {
	return s.Engine.url(s, s.Engine.system)
}

// NewDatabase creates an empty database. After the test it is dropped, and connections that are still open to it by then are
// reported as a failure of the test.
func (s *Server) NewDatabase(t testing.TB) *Database {
	t.Helper()
	d, err := s.Create("dblocker_test_" + randomHex(6))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.drop(t) })
	return d
}

// Create creates an empty database.
func (s *Server) Create(name string) (*Database, error) {
	if err := s.exec(fmt.Sprintf(s.Engine.create, name)); err != nil {
		return nil, fmt.Errorf("%s: create database: %w", s.Engine.Name, err)
	}
	return &Database{Server: s, Name: name}, nil
}

// exec runs one statement as the server's administrator. It opens a connection each time: one kept open would be a goroutine
// of ours in the middle of every leak check.
func (s *Server) exec(query string) error {
	db, err := s.Engine.open(s)
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.Exec(query)
	return err
}

func randomHex(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// String is for messages: it names no password.
func (s *Server) String() string {
	return fmt.Sprintf("%s on %s", s.Engine.Name, s.Addr())
}
