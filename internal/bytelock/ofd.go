//go:build linux || darwin

package bytelock

import (
	"os"
	"syscall"
)

const supported = true

// A descriptor is of a description of its own, which locks belong to. It is closed on exec, and a lock is not inherited.
type descriptor struct {
	file *os.File
	fd   uintptr
}

func describe(f *os.File) descriptor { return descriptor{f, f.Fd()} }

func (d descriptor) close() { d.file.Close() }

// try locks the range, or changes the mode of what it has there; all of it or nothing. It does not wait. A range that is locked by
// another in a way that excludes this is false without an error.
func (d descriptor) try(m Mode, s span) (bool, error) {
	err := d.fcntl(ofdSetLock, m, s)
	if err == syscall.EAGAIN || err == syscall.EACCES {
		return false, nil
	}
	return err == nil, wrap(err)
}

// wait locks the range when it can. It blocks the thread.
func (d descriptor) wait(m Mode, s span) error { return wrap(d.fcntl(ofdSetLockWait, m, s)) }

// unlock cannot fail, as far as the kernel goes: it splits no range. See Key.
func (d descriptor) unlock(s span) error { return wrap(d.fcntl(ofdSetLock, none, s)) }

// look tells whether another description has an exclusive lock in the range.
func (d descriptor) look(s span) bool {
	m, err := d.other(Shared, s)
	return err != nil || m != none
}

// other returns the mode of a lock that another description has in the range, if it excludes this mode.
func (d descriptor) other(than Mode, s span) (Mode, error) {
	l := s.flock(than)
	for {
		switch err := syscall.FcntlFlock(d.fd, ofdGetLock, &l); err {
		case syscall.EINTR:
			l = s.flock(than)
		case nil:
			return modeOf(l.Type), nil
		default:
			return none, wrap(err)
		}
	}
}

func (d descriptor) fcntl(cmd int, m Mode, s span) error {
	for {
		l := s.flock(m)
		if err := syscall.FcntlFlock(d.fd, cmd, &l); err != syscall.EINTR {
			return err
		}
	}
}

// flock returns the request for a range. Its pid has to be zero.
func (s span) flock(m Mode) syscall.Flock_t {
	l := syscall.Flock_t{Type: syscall.F_UNLCK, Start: s.start, Len: s.length}
	switch m {
	case Shared:
		l.Type = syscall.F_RDLCK
	case Exclusive:
		l.Type = syscall.F_WRLCK
	}
	return l
}

func modeOf(lockType int16) Mode {
	switch lockType {
	case syscall.F_RDLCK:
		return Shared
	case syscall.F_WRLCK:
		return Exclusive
	}
	return none
}

func wrap(err error) error {
	if err == nil {
		return nil
	}
	return os.NewSyscallError("fcntl", err)
}
