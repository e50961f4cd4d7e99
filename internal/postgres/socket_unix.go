//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package postgres

import (
	"errors"
	"net"
	"syscall"
)

// peek returns a function that tells whether the server has ended a connection that is
// idle, as far as that can be known without to send anything; or nil.
func peek(conn net.Conn) func() (ended, known bool) {
	encrypted := false
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok { // a *tls.Conn
		conn, encrypted = t.NetConn(), true
	}
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	var (
		first [1]byte
		n     int
		errno error
	)
	peek := func(fd uintptr) (done bool) {
		n, _, errno = syscall.Recvfrom(int(fd), first[:], syscall.MSG_PEEK) // Go's sockets do not block
		return true
	}
	return func() (ended, known bool) {
		switch err := raw.Read(peek); {
		case err != nil:
			return false, false
		case errors.Is(errno, syscall.EAGAIN):
			return false, true
		case errno != nil || n == 0:
			return true, true
		case !encrypted && first[0] == 'E': // an ErrorResponse that nobody has asked for: it is terminated
			return true, true
		}
		return false, false // a notice, perhaps
	}
}
