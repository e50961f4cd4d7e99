package sqlite

import (
	"context"
	"strings"

	"github.com/calmdocs/dblocker/internal/server"
)

// SetsSynchronous returns the synchronous that the DSN sets, as OFF, NORMAL, FULL or EXTRA; "" if it sets none, or nobody knows.
// https://www.sqlite.org/pragma.html#pragma_synchronous
func (c *Connector) SetsSynchronous() string {
	if !c.isOfAFile() {
		return ""
	}
	switch value := strings.ToUpper(c.dsn.library.pragmaValue(c.dsn.params, "synchronous")); value {
	case "":
		return ""
	case "0", "OFF", "NO", "FALSE":
		return "OFF"
	case "2", "FULL":
		return "FULL"
	case "3", "EXTRA":
		return "EXTRA"
	default: // as SQLite reads any other word
		return "NORMAL"
	}
}

// EachSynced is the synchronous with which each commit is on disk when it is answered, in any journal mode. With FULL the
// deletion of a journal is not: if it is undone, so is the commit.
const EachSynced = "EXTRA"

// MainFile returns the file of a connection's main database; "" if it has none.
func MainFile(ctx context.Context, sc *server.Conn) (string, error) {
	list, err := sc.QueryText(ctx, "PRAGMA database_list")
	if err != nil {
		return "", err
	}
	for _, row := range list {
		if len(row) == 3 && row[1] == "main" {
			return row[2], nil
		}
	}
	return "", nil
}
