package main

import (
	"database/sql"
	"errors"
	"net"
	"net/url"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// A target is the database that all columns work on.
type target struct {
	driver  string // the inner driver's name
	options string // dblocker's, as in "?lock_timeout=5s", or ""
	dsn     string // the inner DSN
	perFile bool   // dsn is the beginning of a file's path, which the column's name completes
}

func (t target) dsnFor(column string) string {
	if t.perFile {
		return t.dsn + column + ".db"
	}
	return t.dsn
}

// parseTarget takes a data source name of dblocker apart, so that the bare columns
// can open the same inner driver with the same inner DSN.
func parseTarget(dsn string) (target, error) {
	db, err := sql.Open("dblocker", dsn) // connects to nothing yet, but checks it all
	if err != nil {
		return target{}, err
	}
	db.Close()
	head, inner, _ := strings.Cut(dsn, ":")
	if strings.HasPrefix(inner, "//") { // a URL that stands for driver and DSN together
		switch head {
		case "postgres", "postgresql":
			return target{driver: "postgres", dsn: dsn}, nil
		case "mysql":
			inner, err := mysqlDSN(dsn)
			return target{driver: "mysql", dsn: inner}, err
		case "sqlite3":
			return target{driver: "sqlite3", dsn: strings.TrimPrefix(inner, "//")}, nil
		}
	}
	name, options, found := strings.Cut(head, "?")
	if found {
		options = "?" + options
	}
	if name == "mysql" && strings.HasPrefix(inner, "mysql://") {
		inner, err = mysqlDSN(inner)
	}
	return target{driver: name, options: options, dsn: inner}, err
}

// mysqlDSN rewrites a URL to the form that go-sql-driver/mysql takes.
func mysqlDSN(raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", errors.New("the mysql URL cannot be read; write mysql://user:password@host:3306/database")
	}
	cfg := mysql.NewConfig()
	cfg.User = u.User.Username()
	cfg.Passwd, _ = u.User.Password()
	cfg.Net, cfg.Addr = "tcp", u.Host
	if u.Port() == "" {
		cfg.Addr = net.JoinHostPort(u.Hostname(), "3306")
	}
	cfg.DBName = strings.TrimPrefix(u.Path, "/")
	dsn := cfg.FormatDSN()
	if u.RawQuery != "" {
		dsn += "?" + u.RawQuery
	}
	return dsn, nil
}
