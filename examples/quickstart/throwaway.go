package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// openTarget reads the DSN, or makes a throwaway database of the engine.
func openTarget(ctx context.Context, cfg config, out io.Writer) (t target, cleanUp func(), err error) {
	if cfg.dsn != "" {
		t, err = parseTarget(cfg.dsn)
		return t, func() {}, err
	}
	switch cfg.engine {
	case "sqlite", "":
		return sqliteFiles()
	case "postgres":
		return server(ctx, testdb.PostgreSQL, out)
	case "mariadb":
		return server(ctx, testdb.MariaDB, out)
	}
	return target{}, nil, fmt.Errorf("unknown engine %q; write -engine sqlite, postgres or mariadb", cfg.engine)
}

// sqliteFiles makes a directory for a file of each column: the second should not
// find the first one's free pages.
func sqliteFiles() (target, func(), error) {
	dir, err := os.MkdirTemp("", "dblocker-quickstart-")
	if err != nil {
		return target{}, nil, err
	}
	return target{driver: "sqlite3", dsn: filepath.Join(dir, "quickstart-"), perFile: true}, func() { os.RemoveAll(dir) }, nil
}

// server starts a server from the programs of this machine, or from those that it
// downloads for this.
func server(ctx context.Context, e *testdb.Engine, out io.Writer) (target, func(), error) {
	say := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
	if e.Installed() == "" {
		say("%s is not on this machine: its package is downloaded and unpacked in a cache, and nothing is installed", e.Name)
		if err := testdb.Unpack(ctx, say, e); err != nil {
			return target{}, nil, fmt.Errorf("%s: %w; give a database of a server with -dsn", e.Name, err)
		}
	}
	say("starting a throwaway %s, which does not wait for the disk", e.Name)
	s, err := testdb.Launch(e)
	if err != nil {
		return target{}, nil, err
	}
	stop := func() {
		if err := s.Close(); err != nil {
			say("stopping the server: %v", err)
		}
	}
	d, err := s.Create("quickstart")
	if err != nil {
		stop()
		return target{}, nil, err
	}
	t, err := parseTarget(d.URL())
	if err != nil {
		stop()
		return target{}, nil, err
	}
	return t, stop, nil
}
