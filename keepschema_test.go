package dblocker

import (
	"context"
	"database/sql"
	"testing"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// TestSchemaChangeOfTableNamedTemp: the name of a table may contain TEMP, which makes a change of
// it no temporary one. Inside a transaction PostgreSQL would refuse the statement that was kept.
func TestSchemaChangeOfTableNamedTemp(t *testing.T) {
	db, err := sql.Open("dblocker", "postgres:"+testdb.Postgres(t).NewDatabase(t).DSN())
	must(t, err)
	defer db.Close()
	mustRun(t, db, "CREATE TABLE templates (id INTEGER)")
	mustRun(t, db, "INSERT INTO templates VALUES (1)")
	reader, err := db.Conn(context.Background())
	must(t, err)
	defer reader.Close()
	const query = "SELECT * FROM templates WHERE id = $1"
	for range 3 { // it is kept from the second use on
		value(t, reader, query, 1)
	}
	for _, change := range []string{
		"ALTER TABLE templates ADD COLUMN v INTEGER",
		"ALTER TABLE templates ADD COLUMN temporary INTEGER",
	} {
		mustRun(t, db, change)
		tx, err := reader.BeginTx(context.Background(), nil)
		must(t, err)
		rows, err := tx.Query(query, 1)
		if err != nil {
			t.Errorf("after %s: %v", change, err)
		} else {
			rows.Close()
		}
		must(t, tx.Rollback())
	}
}
