package allhandles

import (
	"context"
	"database/sql"
)

func save(ctx context.Context, db *sql.DB) {
	db.Exec("UPDATE t SET v = 1") // want `Exec has no context`
	db.ExecContext(ctx, "UPDATE t SET v = 1")
}
