//go:build unix

package testdb

import "syscall"

// canLaunch says whether throwaway servers work on this system: they need a POSIX shell and signals.
const canLaunch = true

// detached keeps the terminal's signals from a process, so that Ctrl-C stops the tests first and the servers after them, and
// runs it as another user unless that is nil.
func detached(u *account) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true}
	if u != nil {
		attr.Credential = &syscall.Credential{Uid: uint32(u.uid), Gid: uint32(u.gid)}
	}
	return attr
}
