// Package fakedriver is a database driver for tests. Its connections, statements
// and rows have exactly the optional interfaces that a test asks for, it records
// every call, and it fails where it is told to.
//
// What a statement does is written in it: it has a parameter for each "?"; the
// word "anyargs" hides their number, and "skip" makes a connection decline to run it
// without preparing it.
package fakedriver

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"io"
	"reflect"
	"sync"
)

//go:generate go run generate.go

// A Shape says which optional interfaces the objects of a driver have. Subsets
// are numbers: each bit is one of the interfaces that generate.go lists.
type Shape struct {
	Conn, Stmt, Rows int
	Closer           bool // the connector is an io.Closer
}

// Shapes returns the numbers of subsets there are for connections, statements and
// rows.
func Shapes() (conn, stmt, rows int) {
	return len(connSubsets), len(stmtSubsets), len(rowsSubsets)
}

// Full returns the shape with all optional interfaces.
func Full() Shape {
	return Shape{len(connSubsets) - 1, len(stmtSubsets) - 1, len(rowsSubsets) - 1, true}
}

// The interfaces in a subset of a connection's.
const (
	Pinger = 1 << iota
	ExecerContext
	Execer
	QueryerContext
	Queryer
	ConnPrepareContext
	ConnBeginTx
	SessionResetter
	Validator
	ConnChecker
)

// The interfaces in a subset of a statement's.
const (
	StmtExecContext = 1 << iota
	StmtQueryContext
	StmtChecker
	ColumnConverter
)

// A Fault replaces what one call of a method does.
type Fault struct {
	Method string // as recorded, such as "conn.BeginTx"
	Nth    int    // which of its calls, from 1; 0 is all
	Err    error  // what it returns; IsValid returns false
	Do     func() // is called first; may be nil
}

// A Server is what the connections of one connector connect to.
type Server struct {
	Shape Shape

	// Hook is called at each call, with the number of calls until then, if it is set. An error
	// that it returns is the call's.
	Hook func(n int, method string) error

	// Values are what queries answer: one value, instead of the usual result sets.
	Values map[string]string

	// Overlap is told of two calls at a time on a connection; if it is nil, they end the process.
	Overlap func(report string)

	// OneTx makes BEGIN fail inside a transaction, as SQLite does.
	OneTx bool

	mu     sync.Mutex // guards what follows
	faults []Fault
	conns  int // that were made
	open   int
	count  map[string]int // calls by method
	calls  []string
	locks  map[string]map[int]*sessionLock // by key and connection

	running map[int]*running // by connection
}

// NewServer returns a server with the given faults.
func NewServer(shape Shape, faults ...Fault) *Server {
	return &Server{Shape: shape, faults: faults, count: make(map[string]int)}
}

// Calls returns the record of all calls.
func (s *Server) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.calls...)
}

// Counts returns the number of calls by method.
func (s *Server) Counts() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := make(map[string]int)
	for m, n := range s.count {
		counts[m] = n
	}
	return counts
}

// Open returns the number of connections that are open.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// call records a call and returns the error of the fault that is meant for it.
func (s *Server) call(ctx context.Context, conn int, method string, args ...any) error {
	defer s.enter(conn, method)()
	s.mu.Lock()
	s.count[method]++
	line := fmt.Sprintf("%s #%d", method, conn)
	for _, arg := range args {
		line += " " + describe(arg)
	}
	if ctx != nil {
		line += " " + describeContext(ctx)
	}
	s.calls = append(s.calls, line)
	var hit Fault
	for _, f := range s.faults {
		if f.Method == method && (f.Nth == 0 || f.Nth == s.count[method]) {
			hit = f
		}
	}
	n := len(s.calls)
	s.mu.Unlock()
	if hit.Do != nil {
		hit.Do()
	}
	if s.Hook != nil && hit.Err == nil {
		return s.Hook(n, method)
	}
	return hit.Err
}

// describe writes an argument of a call with its type.
func describe(arg any) string {
	switch arg := arg.(type) {
	case []driver.NamedValue:
		all := make([]string, len(arg))
		for i, nv := range arg {
			all[i] = fmt.Sprintf("%d:%s=%s", nv.Ordinal, nv.Name, describe(nv.Value))
		}
		return fmt.Sprint("named", all)
	case []driver.Value:
		all := make([]string, len(arg))
		for i, v := range arg {
			all[i] = describe(v)
		}
		return fmt.Sprint("plain", all)
	case sql.Out:
		return "an output parameter"
	}
	switch v := reflect.ValueOf(arg); v.Kind() {
	case reflect.Pointer: // the address would differ from run to run
		if !v.IsNil() {
			return "&" + describe(v.Elem().Interface())
		}
	case reflect.Chan:
		return v.Type().String()
	}
	return fmt.Sprintf("%T(%v)", arg, arg)
}

// noContext is for calls of methods that take none.
var noContext context.Context

type contextKey struct{}

// Mark returns a context that the record shows by its name.
func Mark(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, contextKey{}, name)
}

func describeContext(ctx context.Context) string {
	return fmt.Sprintf("ctx:%v,%v", ctx.Value(contextKey{}), ctx.Err())
}

// Connector returns a connector to the server.
func (s *Server) Connector() driver.Connector {
	c := &connector{s}
	if s.Shape.Closer {
		return struct {
			driver.Connector
			io.Closer
		}{c, closer{s}}
	}
	return c
}

type connector struct{ s *Server }

func (c *connector) Driver() driver.Driver { return Driver{c.s} }

func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	return c.s.connect(ctx, "connector.Connect")
}

type closer struct{ s *Server }

func (c closer) Close() error { return c.s.call(noContext, 0, "connector.Close") }

func (s *Server) connect(ctx context.Context, method string, args ...any) (driver.Conn, error) {
	s.mu.Lock()
	id := s.conns + 1
	s.mu.Unlock()
	if err := s.call(ctx, id, method, args...); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.conns++ // perhaps after another one, that was connecting too
	id = s.conns
	s.open++
	s.mu.Unlock()
	return connSubsets[s.Shape.Conn](&conn{s: s, id: id}), nil
}

// A Driver opens connections by a DSN, without a connector.
type Driver struct{ Server *Server }

func (d Driver) Open(dsn string) (driver.Conn, error) {
	return d.Server.connect(noContext, "driver.Open", dsn)
}

// A ContextDriver has connectors.
type ContextDriver struct{ Driver }

func (d ContextDriver) OpenConnector(dsn string) (driver.Connector, error) {
	if err := d.Server.call(noContext, 0, "driver.OpenConnector", dsn); err != nil {
		return nil, err
	}
	return d.Server.Connector(), nil
}
