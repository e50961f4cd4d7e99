package dblocker

import (
	"database/sql/driver"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/calmdocs/dblocker/internal/drivers"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// generic stands for an engine that dblocker does not know.
var generic = &server.Engine{
	Name:     "generic",
	Text:     sqltext.Generic,
	BindType: sqlx.QUESTION,
	Limits:   server.Limits{MaxIdleConns: defaultIdleConns},
	Database: func(dsn string) string { return dsn },
}

// defaultStmtCache is what the server connections of known drivers keep.
const defaultStmtCache = 64

// defaultIdleConns replaces the two idle connections that database/sql keeps:
// with more than two users at work it would open and close one for nearly every
// statement.
const defaultIdleConns = 16

var dialects = []*server.Engine{sqliteDialect, postgresDialect, mysqlDialect, generic}

func dialectNames() string {
	var names []string
	for _, d := range dialects {
		names = append(names, d.Name)
	}
	return strings.Join(names, ", ")
}

// detectDialect recognizes the engine by the registered name of the driver, and
// else by its Go type: programs register variants under names of their own, and
// wrappers hide the type.
func detectDialect(d driver.Driver, name string) *server.Engine {
	for _, hint := range []string{name, drivers.Package(d)} {
		for _, dialect := range dialects {
			for _, mark := range dialect.Marks {
				if strings.Contains(hint, mark) {
					return dialect
				}
			}
		}
	}
	return generic
}
