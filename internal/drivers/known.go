// Package drivers has what is known of inner drivers. It imports none of them.
package drivers

// Named are the drivers that have a name form, <name>-dblocker, and the
// packages that register them.
var Named = map[string]string{
	"sqlite3":  "github.com/mattn/go-sqlite3",
	"postgres": "github.com/lib/pq",
	"mysql":    "github.com/go-sql-driver/mysql",
	"pgx":      "github.com/jackc/pgx/v5/stdlib",
	"sqlite":   "modernc.org/sqlite",
}

// EndedSets are the drivers that are known to go to the next result set only at the end of
// the one before.
var EndedSets = []string{"github.com/lib/pq"}

// FreshRows are the drivers that are known to make new bytes for each row.
var FreshRows = []string{"github.com/mattn/go-sqlite3", "modernc.org/sqlite", "github.com/jackc/pgx/v5/stdlib"}

// PlainValuers are the drivers that are known to do with a [driver.Valuer] what database/sql does.
var PlainValuers = []string{"github.com/mattn/go-sqlite3", "modernc.org/sqlite", "github.com/lib/pq", "github.com/go-sql-driver/mysql"}
