//go:build unix

package testdb

import (
	"syscall"
	"testing"
)

// Freeze stops the process that serves a session, which of MariaDB is the whole server: it neither works nor answers, and
// its connections stay open. thaw, at the latest the end of the test, lets it go on.
func (p *PrivateServer) Freeze(t testing.TB, s Session) (thaw func()) {
	t.Helper()
	pid := p.process.cmd.Process.Pid
	if p.Engine == PostgreSQL {
		pid = int(s.ID)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatalf("%s: freeze process %d: %v", p, pid, err)
	}
	thaw = func() { syscall.Kill(pid, syscall.SIGCONT) }
	t.Cleanup(thaw)
	return thaw
}
