//go:build unix

package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// servers are what the tests use: one server of each engine.
type servers []*server

type server struct {
	*testdb.Server
	ours *testdb.PrivateServer // nil for a server of the environment
}

var engines = []*testdb.Engine{testdb.PostgreSQL, testdb.MariaDB}

// bringServers brings the programs. What it cannot have is left out, except in CI.
func bringServers(ctx context.Context, s *summary) error {
	all := append(slices.Clone(engines), testdb.PgBouncer)
	err := bringPrograms(ctx, all)
	if err != nil && (inCI() || ctx.Err() != nil) {
		return err
	}
	if err != nil {
		progress("%v", err)
	}
	for _, e := range all {
		if e.Installed() == "" {
			s.leaveOut("tests with "+what(e), "it is not on this machine and could not be downloaded")
		}
	}
	return nil
}

// launchServers returns what it has also beside an error.
func launchServers(ctx context.Context) (all servers, err error) {
	for _, e := range engines {
		if e.Installed() == "" && os.Getenv(e.Env) == "" {
			continue
		}
		one, err := bring(e)
		if err != nil {
			return all, err
		}
		all = append(all, one)
	}
	return all, ctx.Err()
}

// what says which tests need the programs of an engine.
func what(e *testdb.Engine) string {
	if e.Env != "" && os.Getenv(e.Env) != "" {
		return e.Name + " servers of their own"
	}
	return e.Name
}

func bring(e *testdb.Engine) (*server, error) {
	s, err := e.FromEnv()
	if err != nil {
		return nil, err
	}
	if s != nil {
		progress("%s: the server of %s, on %s", e.Name, e.Env, s.Addr())
		return &server{Server: s}, nil
	}
	start := time.Now()
	p, err := testdb.Launch(e)
	if err != nil {
		return nil, err
	}
	progress("%s: throwaway server of %s on %s, started in %.1f s", e.Name, e.Installed(), p.Addr(), time.Since(start).Seconds())
	return &server{p.Server, p}, nil
}

// env is how the tests find the servers.
func (all servers) env() []string {
	var env []string
	for _, s := range all {
		env = append(env, fmt.Sprintf("%s=%s", s.Engine.Env, s.URL()))
	}
	return env
}

// stop stops the servers that we started.
func (all servers) stop() {
	for _, s := range all {
		if s.ours == nil {
			continue
		}
		if err := s.ours.Close(); err != nil {
			progress("%s: %v", s.Engine.Name, err)
		}
	}
}
