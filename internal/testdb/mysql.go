package testdb

import (
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/go-sql-driver/mysql"

	"github.com/calmdocs/dblocker/internal/debs"
)

// MariaDB is the engine behind MySQL and PrivateMySQL.
var MariaDB = &Engine{
	Name:    "MariaDB",
	Env:     "DBLOCKER_TEST_MYSQL",
	Example: "user:password@tcp(127.0.0.1:3306)/",
	Package: "mariadb-server",

	parse:    parseMySQL,
	url:      mysqlURL,
	dsn:      mysqlDSN,
	open:     openMySQL,
	system:   "",
	create:   "CREATE DATABASE %s CHARACTER SET utf8mb4", // the default was latin1 for long
	drop:     "DROP DATABASE %s",
	sessions: "SELECT id, concat(command, ': ', ifnull(info, '')) FROM information_schema.processlist WHERE db = '%s' ORDER BY id",
	kill:     "KILL CONNECTION %d",

	unpacked:   debs.Program{Dir: "mariadb", Package: "mariadb-server", Wanted: regexp.MustCompile(`^mariadb-(server|client)-core(-[\d.]+)?$|^mariadb-common$`)},
	binaries:   mariadbBinaries,
	initialize: mariadbInstallDB,
	serve:      mariadbCommand,
	stop:       syscall.SIGTERM,
	abort:      syscall.SIGKILL,
}

func parseMySQL(dsn string) (*Server, error) {
	if strings.HasPrefix(dsn, "mysql://") {
		return parseMySQLURL(dsn)
	}
	config, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, err
	}
	if config.Net != "tcp" {
		return nil, fmt.Errorf("the tests need a TCP address, not %s(%s)", config.Net, config.Addr)
	}
	s, err := mysqlAt(config.Addr)
	if err != nil {
		return nil, err
	}
	s.User, s.Password = config.User, config.Passwd
	_, s.params, _ = strings.Cut(dsn[strings.LastIndex(dsn, "/"):], "?")
	return s, nil
}

func parseMySQLURL(dsn string) (*Server, error) {
	u, err := url.Parse(dsn)
	if err != nil || u.Hostname() == "" {
		return nil, errors.New("not a mysql:// URL with a host") // the parser's own error would show the password
	}
	addr := u.Host
	if u.Port() == "" {
		addr = net.JoinHostPort(u.Hostname(), "3306")
	}
	s, err := mysqlAt(addr)
	if err != nil {
		return nil, err
	}
	s.User, s.params = u.User.Username(), u.RawQuery
	s.Password, _ = u.User.Password()
	return s, nil
}

func mysqlAt(addr string) (*Server, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	number, err := strconv.Atoi(port)
	return &Server{Host: host, Port: number}, err
}

func mysqlURL(s *Server, database string) string {
	u := url.URL{Scheme: "mysql", User: url.UserPassword(s.User, s.Password), Host: s.Addr(), Path: "/" + database, RawQuery: s.params}
	return u.String()
}

func mysqlDSN(s *Server, database string) string {
	dsn := fmt.Sprintf("%s:%s@tcp(%s)/%s", s.User, s.Password, s.Addr(), database)
	if s.params != "" {
		dsn += "?" + s.params
	}
	return dsn
}

// openMySQL keeps the driver silent, which else logs each attempt to reach a server that is still starting.
func openMySQL(s *Server) (*sql.DB, error) {
	config, err := mysql.ParseDSN(mysqlDSN(s, ""))
	if err != nil {
		return nil, err
	}
	config.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

func mariadbBinaries(find func(string, ...string) string) (installDB, mariadbd string) {
	return find("mariadb-install-db", "/usr/bin"), find("mariadbd", "/usr/sbin", "/usr/local/sbin", "/usr/libexec")
}

// mariadbBase tells unpacked programs where their files are: they look below /usr.
func mariadbBase(c *cluster) []string {
	if c.root == "" {
		return nil
	}
	return []string{"--basedir=" + filepath.Join(c.root, "usr")}
}

func mariadbInstallDB(program string, c *cluster) error {
	// The tables that the program makes know only a root on the Unix socket. The server adds our user whenever it starts.
	addUser := fmt.Sprintf("CREATE USER IF NOT EXISTS '%[1]s'@'%%' IDENTIFIED BY '%[2]s';\n"+
		"GRANT ALL PRIVILEGES ON *.* TO '%[1]s'@'%%' WITH GRANT OPTION;\n", c.User, c.Password)
	if err := c.writeFile(c.path("init.sql"), addUser); err != nil {
		return err
	}
	argv := append([]string{program, "--no-defaults"}, mariadbBase(c)...)
	return c.run(append(argv, "--datadir="+c.path("data"), "--auth-root-authentication-method=normal",
		"--skip-test-db", "--skip-name-resolve", "--force", // --force: also where "localhost" has no address
		"--innodb-log-file-size=8M", "--tmpdir="+c.dir)...)
}

func mariadbCommand(program string, c *cluster) []string {
	argv := append([]string{program, "--no-defaults"}, mariadbBase(c)...)
	return append(argv,
		"--datadir="+c.path("data"), "--init-file="+c.path("init.sql"),
		"--bind-address="+c.Host, "--port="+strconv.Itoa(c.Port),
		"--socket=mariadb.sock", // in the data directory: a longer path may be too long
		"--pid-file="+c.path("mariadb.pid"),
		"--tmpdir="+c.dir, // a server that starts removes all temporary tables there, other servers' too
		"--skip-name-resolve",
		"--innodb-flush-log-at-trx-commit=2", // safe when a server is killed, since the kernel lives on
		"--innodb-log-file-size=8M", "--innodb-buffer-pool-size=32M",
		"--max-connections=151",
	)
}
