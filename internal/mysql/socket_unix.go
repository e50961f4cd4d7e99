//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package mysql

import (
	"errors"
	"net"
	"syscall"
)

// peek returns a function that tells whether the server has ended a connection that is idle, as far as that can be
// known without to send anything; or nil. The server sends nothing then but that it has.
func peek(conn net.Conn, encrypted bool) func() (ended, known bool) {
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
		case errno != nil || n == 0 || !encrypted:
			return true, true
		}
		return false, false
	}
}
