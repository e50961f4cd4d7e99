//go:build unix

package processes

import (
	"errors"
	"os"
	"sync"
	"testing"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// An ownServer is one of this package's own, since it is restarted. All tests share it, each with a database of its own.
type ownServer struct {
	engine *testdb.Engine
	once   sync.Once
	server *testdb.PrivateServer
	err    error
}

// get starts it, unless that is done. Where none is installed, a developer's test is skipped.
func (s *ownServer) get(t testing.TB) *testdb.PrivateServer {
	t.Helper()
	s.once.Do(func() { s.server, s.err = testdb.Launch(s.engine) })
	if errors.Is(s.err, testdb.ErrNotInstalled) && os.Getenv("CI") == "" {
		t.Skip(s.err)
	}
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.server
}

func closeServers() {
	for _, e := range engines {
		if e.server != nil && e.server.server != nil {
			e.server.server.Close()
		}
	}
}
