// Package engines knows which engines there are, and which one a name or a DSN is of.
package engines

import (
	"strings"

	"github.com/calmdocs/dblocker/internal/mysql"
	"github.com/calmdocs/dblocker/internal/postgres"
)

// Inner returns the inner driver's name and DSN in a data source name "name:inner". As a URL
// it has the name as its scheme; ofPath tells that dsn was the path of one, such as sqlite3://app.db.
func Inner(name, inner string) (driver, dsn string, ofPath bool) {
	driver, dsn = DriverName(name), inner
	if path, ok := strings.CutPrefix(inner, "//"); ok {
		switch name {
		case "postgres", "postgresql", "mysql":
			dsn = name + ":" + inner
		case "sqlite3", "sqlite":
			return driver, path, true
		}
	}
	return driver, dsn, false
}

// DriverName returns the driver that a name is of: PostgreSQL's URLs have another scheme too.
func DriverName(name string) string {
	if name == "postgresql" {
		return "postgres"
	}
	return name
}

// IsURL tells whether a DSN is a URL that names an engine.
func IsURL(dsn string) bool {
	scheme, _, found := strings.Cut(dsn, "://")
	switch scheme {
	case "postgres", "postgresql", "mysql":
		return found
	}
	return false
}

// ParamsOfServer returns those of the engine's own parameters in a URL that have the name of an
// option.
func ParamsOfServer(url string) []string {
	if strings.HasPrefix(url, "postgres") {
		return postgres.Engine.OwnParams
	}
	return nil
}

// ForDriver returns the DSN in a form that the driver reads: go-sql-driver/mysql reads no URL.
func ForDriver(driver, dsn string) (string, error) {
	if driver == "mysql" && strings.HasPrefix(dsn, "mysql://") {
		return mysql.FromURL(dsn)
	}
	return dsn, nil
}
