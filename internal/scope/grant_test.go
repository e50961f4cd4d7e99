package scope

import (
	"context"
	"database/sql/driver"
	"runtime"
	"testing"

	"github.com/calmdocs/dblocker/internal/server"
)

// TestReleaseBesideAnotherThatFails: a lock is released while another one is being given up on the same connection, where the driver ends the goroutine. It is
// gone with the connection then: nothing more is sent there, and whoever waits for it does not wait for ever.
func TestReleaseBesideAnotherThatFails(t *testing.T) {
	calls, failing := 0, make(chan struct{})
	locks := &server.Locks{
		Session: func(*server.Conn) string { return "1" },
		Release: func(context.Context, *server.Conn, []server.WantedLock) error {
			calls++
			<-failing
			runtime.Goexit()
			return nil
		},
	}
	s := New(locks, new(Table), "")
	sc := server.NewConn(struct{ driver.Conn }{}, &server.Config{Engine: &server.Engine{}})
	sc.Pinned = true // so that nothing rests
	grants := []*Grant{s.grant(sc, Ask{Users: []string{"1"}}), s.grant(sc, Ask{Users: []string{"2"}})}
	for _, g := range grants {
		g.enter()
	}
	grants[0].Release()
	go close(failing)
	grants[1].Release()
	for _, g := range grants {
		<-g.released
	}
	sc.Settle()
	if !sc.HasFailed() || calls != 1 {
		t.Errorf("the connection has failed %v, and %d locks were given up on it, want the first", sc.HasFailed(), calls)
	}
}
