package engines

import (
	"strconv"

	"github.com/calmdocs/dblocker/internal/sqlite"
)

// Code returns what the engine calls an error, or one that it wraps: the SQLSTATE of PostgreSQL, the number of MySQL and MariaDB, the extended
// result code of SQLite. It is "" if no engine has answered so.
func Code(err error) (code string) {
	anyOf(err, func(err error) bool {
		code = codeOf(err)
		return code != ""
	})
	return code
}

func codeOf(err error) string {
	if state := stateOf(err); state != "" {
		return state
	}
	if n := numberOf(err); n != 0 {
		return strconv.FormatUint(n, 10)
	}
	if n := sqlite.ExtendedCode(err); n != 0 {
		return strconv.Itoa(n)
	}
	return ""
}
