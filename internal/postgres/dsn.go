// Package postgres has what is special to PostgreSQL and its drivers.
package postgres

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/user"
	"slices"
	"strings"

	"github.com/calmdocs/dblocker/internal/dsnparts"
	"github.com/calmdocs/dblocker/internal/redact"
)

// database returns host, port and database of a connection string, with
// the defaults of libpq, so that lib/pq and pgx agree on it. What it cannot read
// is its own identity.
// https://www.postgresql.org/docs/current/libpq-connect.html
func database(dsn string) string {
	params, ok := paramsOf(dsn)
	if !ok {
		return dsn
	}
	get := func(key, env, fallback string) string {
		return cmp.Or(params[key], os.Getenv(env), fallback)
	}
	host := get("host", "PGHOST", "localhost")
	host = cmp.Or(params["hostaddr"], host)
	name := get("user", "PGUSER", osUser())
	name = get("dbname", "PGDATABASE", name)
	return fmt.Sprintf("%s:%s/%s", hostOf(host), get("port", "PGPORT", "5432"), name)
}

// hostOf gives one name to the ways to reach the server on this machine:
// the loopback addresses, and the socket directories that PostgreSQL and its
// packages are built with.
func hostOf(host string) string {
	switch host {
	case "/tmp", "/var/run/postgresql", "/run/postgresql":
		return "localhost"
	}
	return dsnparts.Host(host)
}

func osUser() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return ""
}

// paramsOf reads a connection string in URL or keyword form.
func paramsOf(dsn string) (map[string]string, bool) {
	if strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://") {
		return urlParams(dsn)
	}
	return keywords(dsn)
}

func urlParams(dsn string) (map[string]string, bool) {
	u, err := url.Parse(dsn)
	if err != nil {
		return nil, false
	}
	params := map[string]string{
		"host":   u.Hostname(),
		"port":   u.Port(),
		"user":   u.User.Username(),
		"dbname": strings.TrimPrefix(u.Path, "/"),
	}
	for key, values := range u.Query() {
		if key == "database" { // pgx's synonym
			key = "dbname"
		}
		params[key] = values[0]
	}
	return params, true
}

// keywords reads key = value pairs.
func keywords(dsn string) (map[string]string, bool) {
	params := make(map[string]string)
	for rest := strings.TrimLeft(dsn, " \t\r\n"); rest != ""; rest = strings.TrimLeft(rest, " \t\r\n") {
		key, after, found := strings.Cut(rest, "=")
		if !found {
			return nil, false
		}
		value, after, ok := redact.KeywordValue(strings.TrimLeft(after, " \t\r\n"))
		if !ok {
			return nil, false
		}
		params[strings.TrimSpace(key)] = value
		rest = after
	}
	return params, true
}

// ownParams are the options of dblocker whose names PostgreSQL has for parameters of its
// own: https://www.postgresql.org/docs/current/runtime-config-client.html
var ownParams = []string{"lock_timeout", "statement_timeout"}

// paramNames returns the names of the parameters in a connection string.
func paramNames(dsn string) []string {
	params, _ := paramsOf(dsn)
	return slices.Sorted(maps.Keys(params))
}
