package testdb

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/calmdocs/dblocker/internal/debs"
)

// ErrNotInstalled is the error of a server that no environment variable names and whose binaries are not on this machine.
var ErrNotInstalled = errors.New("not found")

// An Engine is one kind of server. Everything that testdb does differently for it is in its fields, filled in by the engine's
// own file.
type Engine struct {
	Name    string // as in messages
	Env     string // the variable that names a running server with the right to create databases; "" if none can be named
	Example string // a value for Env
	Package string // Debian's package with the binaries

	// Talking to a server.
	parse    func(dsn string) (*Server, error)
	url      func(s *Server, database string) string
	dsn      func(s *Server, database string) string
	open     func(s *Server) (*sql.DB, error)
	params   string // of the DSN of a throwaway server
	system   string // the database to connect to when it does not matter which
	create   string // how to create the database %s
	drop     string // how to drop the database %s
	sessions string // lists id and activity of the sessions in the database %s
	kill     string // ends the session %d

	// Running one. The two programs: one makes the data directory, the other serves it. find looks for a program on the PATH,
	// or in the directories, which may be patterns.
	unpacked    debs.Program // how to have them without installing anything
	binaries    func(find func(program string, dirs ...string) string) (initialize, serve string)
	initialize  func(program string, c *cluster) error
	serve       func(program string, c *cluster) []string
	stop, abort syscall.Signal // an orderly shutdown that does not wait for clients; the quickest end that leaves no process

	once      sync.Once
	server    *Server
	serverErr error
}

// Installed says where the server's binary is, or "" when it is not on this machine.
func (e *Engine) Installed() string {
	initialize, serve := e.programs()
	if !canLaunch || initialize == "" {
		return ""
	}
	return serve
}

// programs prefers those that were unpacked.
func (e *Engine) programs() (initialize, serve string) {
	if root := e.root(); root != "" {
		return e.binaries(func(program string, dirs ...string) string { return lookIn(root, program, dirs) })
	}
	if os.Getenv(IgnoreInstalled) != "" {
		return "", ""
	}
	return e.binaries(lookup)
}

// FromEnv returns the server that the environment names, or nil when it names none.
func (e *Engine) FromEnv() (*Server, error) {
	dsn := os.Getenv(e.Env)
	if dsn == "" {
		return nil, nil
	}
	s, err := e.parse(dsn)
	if err != nil {
		return nil, fmt.Errorf("%s does not name a server, want something like %s: %w", e.Env, e.Example, err)
	}
	s.Engine = e
	s.running = func() bool { return true }
	return s, nil
}

// sharedServer finds or starts the one server that this process uses. It is not closed: it ends with the process.
func (e *Engine) sharedServer() (*Server, error) {
	e.once.Do(func() {
		if e.server, e.serverErr = e.FromEnv(); e.server != nil || e.serverErr != nil {
			return
		}
		var p *PrivateServer
		if p, e.serverErr = Launch(e); e.serverErr == nil {
			e.server = p.Server
		}
	})
	return e.server, e.serverErr
}

func (e *Engine) notInstalled() error {
	if e.Env == "" {
		return fmt.Errorf("%s %w: install it (Debian and Ubuntu: apt-get install %s), or test with \"go run ./internal/cmd/test\", which brings it",
			e.Name, ErrNotInstalled, e.Package)
	}
	return fmt.Errorf("%s %w: install it (Debian and Ubuntu: apt-get install %s), set %s to a running one, or test with "+
		"\"go run ./internal/cmd/test\", which brings one", e.Name, ErrNotInstalled, e.Package, e.Env)
}

// lookup finds a program on the PATH or else in the directories, which may be patterns; the last match is the newest version.
func lookup(program string, dirs ...string) string {
	if path, err := exec.LookPath(program); err == nil {
		return path
	}
	return lookIn("", program, dirs)
}

// lookIn does that in the directories only, below a root.
func lookIn(root, program string, dirs []string) string {
	for _, dir := range dirs {
		matches, _ := filepath.Glob(filepath.Join(root, dir, program))
		if len(matches) > 0 {
			return matches[len(matches)-1]
		}
	}
	return ""
}
