package postgres

import (
	"database/sql/driver"
	"fmt"
	"net"
	"reflect"
	"unsafe"

	"github.com/calmdocs/dblocker/internal/drivers"
)

// Process returns the process ID that the server sent to lib/pq at connect,
// or "" for another driver. lib/pq does not export it.
func Process(ci driver.Conn) string {
	if pid := drivers.Field(reflect.ValueOf(ci), "pid"); pid.IsValid() && pid.CanInt() {
		return fmt.Sprint(pid.Int())
	}
	return ""
}

// pgxConn returns ci.Conn().PgConn(), which a *stdlib.Conn of pgx has. The names
// are constants here, or the linker would keep every method of the program.
func pgxConn(ci driver.Conn) (conn interface {
	PID() uint32
	IsClosed() bool
}, ok bool) {
	var result any
	if result, ok = getter(reflect.ValueOf(ci).MethodByName("Conn")); !ok {
		return nil, false
	}
	if result, ok = getter(reflect.ValueOf(result).MethodByName("PgConn")); !ok {
		return nil, false
	}
	conn, ok = result.(interface {
		PID() uint32
		IsClosed() bool
	})
	return conn, ok
}

// getter calls a method, if it is one without arguments and with one result.
func getter(method reflect.Value) (result any, ok bool) {
	if !method.IsValid() || method.Type().NumIn() != 0 || method.Type().NumOut() != 1 {
		return nil, false
	}
	return method.Call(nil)[0].Interface(), true
}

// tellsTx reads what the server said with its last ReadyForQuery, of which lib/pq and pgx keep
// the status: I is none.
// https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-READYFORQUERY
func tellsTx(v reflect.Value) func() bool {
	status := drivers.Field(v, "txnStatus") // of lib/pq
	if !status.IsValid() {
		status = drivers.Field(drivers.Field(drivers.Field(v, "conn"), "pgConn"), "txStatus") // of a *stdlib.Conn of pgx
	}
	if status.Kind() != reflect.Uint8 {
		return nil
	}
	return func() bool { return status.Uint() != 'I' }
}

// libpqSocket returns the network connection that lib/pq has, or nil. It is only ever looked at.
func libpqSocket(ci driver.Conn) net.Conn {
	c := drivers.Field(reflect.ValueOf(ci), "c")
	if !c.IsValid() || !c.CanAddr() || c.Type() != reflect.TypeFor[net.Conn]() {
		return nil
	}
	return *(*net.Conn)(unsafe.Pointer(c.UnsafeAddr())) // as it is not exported
}

// peekIdle returns a function that tells whether the server has ended a connection of lib/pq
// that is idle, as far as that can be known without to send anything; or nil.
func peekIdle(ci driver.Conn) func() (ended, known bool) {
	if c := libpqSocket(ci); c != nil {
		return peek(c)
	}
	return nil
}
