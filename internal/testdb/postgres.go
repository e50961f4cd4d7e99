package testdb

import (
	"database/sql"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	_ "github.com/lib/pq"

	"github.com/calmdocs/dblocker/internal/debs"
)

// PostgreSQL is the engine behind Postgres and PrivatePostgres.
var PostgreSQL = &Engine{
	Name:    "PostgreSQL",
	Env:     "DBLOCKER_TEST_POSTGRES",
	Example: "postgres://user:password@127.0.0.1:5432/postgres?sslmode=disable",
	Package: "postgresql",

	parse:  parsePostgres,
	url:    postgresURL,
	dsn:    postgresKeywords,
	open:   func(s *Server) (*sql.DB, error) { return sql.Open("postgres", s.URL()) },
	params: "sslmode=disable",
	system: "postgres",
	create: "CREATE DATABASE %s",
	drop:   "DROP DATABASE %s WITH (FORCE)",
	sessions: `SELECT pid, coalesce(state, '') || ': ' || coalesce(query, '') FROM pg_stat_activity
		WHERE datname = '%s' AND backend_type = 'client backend' ORDER BY pid`,
	kill: "SELECT pg_terminate_backend(%d)",

	unpacked:   debs.Program{Dir: "postgresql", Package: "postgresql", Wanted: regexp.MustCompile(`^postgresql-\d+$`)},
	binaries:   postgresBinaries,
	initialize: initdb,
	serve:      postgresCommand,
	stop:       syscall.SIGINT,  // fast shutdown
	abort:      syscall.SIGQUIT, // immediate shutdown: on SIGKILL the busy children would live on for a while
}

func parsePostgres(dsn string) (*Server, error) {
	u, err := url.Parse(dsn)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || u.Hostname() == "" {
		return nil, errors.New("not a postgres:// URL with a host") // the parser's own error would show the password
	}
	port := 5432
	if p := u.Port(); p != "" {
		port, _ = strconv.Atoi(p) // url.Parse accepts digits only
	}
	password, _ := u.User.Password()
	return &Server{Host: u.Hostname(), Port: port, User: u.User.Username(), Password: password, params: u.RawQuery}, nil
}

func postgresURL(s *Server, database string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(s.User, s.Password), Host: s.Addr(), Path: database, RawQuery: s.params}
	return u.String()
}

func postgresKeywords(s *Server, database string) string {
	words := []string{
		keyword("host", s.Host), keyword("port", strconv.Itoa(s.Port)), keyword("user", s.User),
		keyword("password", s.Password), keyword("dbname", database),
	}
	params, _ := url.ParseQuery(s.params)
	for name, values := range params {
		words = append(words, keyword(name, values[0]))
	}
	return strings.Join(words, " ")
}

func keyword(name, value string) string {
	return name + "='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
}

// postgresBinaries looks where Debian, Red Hat and Homebrew put the servers, which is not on the PATH.
func postgresBinaries(find func(string, ...string) string) (initdb, postgres string) {
	initdb = find("initdb", "/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin",
		"/usr/local/opt/postgresql*/bin")
	if initdb == "" {
		return "", ""
	}
	return initdb, filepath.Join(filepath.Dir(initdb), "postgres")
}

func initdb(program string, c *cluster) error {
	pwfile := c.path("password")
	if err := c.writeFile(pwfile, c.Password); err != nil {
		return err
	}
	defer os.Remove(pwfile)
	// Passwords are asked for, since other users of the machine can connect too, and sent as they are, since hashing them for
	// scram takes longer than all the rest of a connect.
	return c.run(program, "-D", c.path("data"), "-U", c.User, "--pwfile="+pwfile, "--auth=password", "--encoding=UTF8",
		"--locale=C", "--no-sync")
}

func postgresCommand(program string, c *cluster) []string {
	return []string{
		program, "-D", c.path("data"), "-p", strconv.Itoa(c.Port),
		"-c", "listen_addresses=" + c.Host,
		"-c", "unix_socket_directories=", // their paths may be too long in a temporary directory
		"-c", "fsync=off", // safe when a server is killed, since the kernel lives on
		"-c", "full_page_writes=off",
		"-c", "shared_buffers=16MB",
		"-c", "max_connections=100",
	}
}
