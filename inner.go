//go:build !dblocker_noinner

package dblocker

// The default inner drivers. The build tag dblocker_noinner leaves them out, for
// programs that bring drivers of their own: two packages that register the same
// name cannot be linked into one program.
import (
	_ "github.com/go-sql-driver/mysql" // "mysql"
	_ "github.com/lib/pq"              // "postgres"
	_ "github.com/mattn/go-sqlite3"    // "sqlite3"
)
