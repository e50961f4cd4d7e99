package engines

import (
	"database/sql/driver"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/calmdocs/dblocker/internal/drivers"
	"github.com/calmdocs/dblocker/internal/mysql"
	"github.com/calmdocs/dblocker/internal/postgres"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqlite"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// Generic stands for an engine that dblocker does not know.
var Generic = &server.Engine{
	Name:     "generic",
	Text:     sqltext.Generic,
	BindType: sqlx.QUESTION,
	Limits:   server.Limits{MaxIdleConns: server.DefaultIdleConns},
	Database: func(dsn string) string { return dsn },
}

// All are the engines, in the order in which they are looked for.
var All = []*server.Engine{sqlite.Engine, postgres.Engine, mysql.Engine, Generic}

// Names returns the names of all, as the option dialect takes them.
func Names() string {
	var names []string
	for _, d := range All {
		names = append(names, d.Name)
	}
	return strings.Join(names, ", ")
}

// FromServer tells whether a server has sent an error, where that is not plain from its type.
func FromServer(err error) bool { return mysql.ErrorNumber(err) != 0 }

// Detect recognizes the engine by the registered name of the driver, and
// else by its Go type: programs register variants under names of their own, and
// wrappers hide the type.
func Detect(d driver.Driver, name string) *server.Engine {
	for _, hint := range []string{name, drivers.Package(d)} {
		for _, engine := range All {
			for _, mark := range engine.Marks {
				if strings.Contains(hint, mark) {
					return engine
				}
			}
		}
	}
	return Generic
}
