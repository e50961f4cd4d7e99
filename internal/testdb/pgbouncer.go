package testdb

import (
	"fmt"
	"regexp"
	"strconv"
	"syscall"
	"testing"

	"github.com/calmdocs/dblocker/internal/debs"
)

// PgBouncer is a pooler in front of a PostgreSQL server. It has no server of the environment: each is a private one.
var PgBouncer = pgBouncer(nil, "transaction", 3)

// PrivatePgBouncer starts a PgBouncer in front of s, for this test alone. It lends a server connection for one transaction at
// a time, and has few, so that two transactions of a client seldom have the same one. DSN leads to the databases of s.
func PrivatePgBouncer(t testing.TB, s *Server) *PrivateServer {
	t.Helper()
	return private(t, pgBouncer(s, "transaction", 3))
}

// PrivateSmallPgBouncer starts one that has no more than one server connection.
func PrivateSmallPgBouncer(t testing.TB, s *Server) *PrivateServer {
	t.Helper()
	return private(t, pgBouncer(s, "transaction", 1))
}

// PrivateSessionPgBouncer starts one that lends a server connection for as long as the client is connected.
func PrivateSessionPgBouncer(t testing.TB, s *Server) *PrivateServer {
	t.Helper()
	return private(t, pgBouncer(s, "session", 30))
}

// DSN is what the driver takes for a database of the server behind.
func (p *PrivateServer) DSN(d *Database) string { return p.Engine.dsn(p.Server, d.Name) }

func pgBouncer(behind *Server, mode string, size int) *Engine {
	return &Engine{
		Name:    "PgBouncer",
		Package: "pgbouncer",

		url:    postgresURL,
		dsn:    postgresKeywords,
		open:   PostgreSQL.open,
		params: PostgreSQL.params,
		system: "postgres",

		unpacked: debs.Program{Dir: "pgbouncer", Package: "pgbouncer", Wanted: regexp.MustCompile(`^pgbouncer$`)},
		binaries: func(find func(string, ...string) string) (initialize, serve string) {
			program := find("pgbouncer", "/usr/sbin")
			return program, program
		},
		initialize: func(string, *cluster) error { return nil },
		serve:      func(program string, c *cluster) []string { return servePgBouncer(program, c, behind, mode, size) },
		stop:       syscall.SIGTERM,
		abort:      syscall.SIGKILL,
	}
}

// servePgBouncer writes the configuration at each start, when the port is known.
func servePgBouncer(program string, c *cluster, behind *Server, mode string, size int) []string {
	config := fmt.Sprintf(`[databases]
* = host=%s port=%d user=%s password=%s
[pgbouncer]
listen_addr = %s
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = %s
default_pool_size = %d
ignore_startup_parameters = extra_float_digits
`, behind.Host, behind.Port, behind.User, behind.Password, c.Host, c.Port, mode, size)
	file := c.path("pgbouncer.ini")
	if err := c.writeFile(file, config); err != nil {
		return []string{"echo", strconv.Quote(err.Error())}
	}
	return []string{program, file}
}
