package main

import (
	"fmt"
	"io"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// newDatabases takes the servers that the environment names, and else starts
// throwaway ones, which end with remove.
func newDatabases(progress io.Writer) *databases {
	d := &databases{}
	brought := map[*testdb.Engine]*testdb.Server{}
	d.server = func(e *testdb.Engine) (s *testdb.Server, err error) {
		if brought[e] == nil {
			brought[e], err = d.bring(e, progress)
		}
		return brought[e], err
	}
	return d
}

func (d *databases) bring(e *testdb.Engine, progress io.Writer) (*testdb.Server, error) {
	if s, err := e.FromEnv(); s != nil || err != nil {
		return s, err
	}
	s, err := testdb.Launch(e)
	if err != nil {
		return nil, err
	}
	d.undo = append(d.undo, s.Close)
	fmt.Fprintf(progress, "throwaway server: %s\n", e.Installed())
	return s.Server, nil
}
