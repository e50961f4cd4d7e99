package compat

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/calmdocs/dblocker"
)

// TestPgxReadsANameAsOneValue: whatever the ID, pgx finds it where it stands in the DSN, and nothing else.
func TestPgxReadsANameAsOneValue(t *testing.T) {
	for _, id := range []string{"27", "../x", "a&sslmode=require", "a' host='evil", "a b", "x\x00", `"$user",public`, "%2f", "é", "Ann"} {
		name, err := dblocker.DatabaseName(id)
		if err != nil {
			t.Fatal(err)
		}
		for _, dsn := range []string{
			"host=h user=someone dbname=" + name + " search_path=" + name + " sslmode=disable",
			"postgres://someone@h/" + name + "?search_path=" + name + "&sslmode=disable",
		} {
			c, err := pgx.ParseConfig(dsn)
			if err != nil {
				t.Fatalf("%q: %v", id, err)
			}
			if c.Database != name || c.RuntimeParams["search_path"] != name || len(c.RuntimeParams) != 1 || c.Host != "h" || c.User != "someone" || c.TLSConfig != nil {
				t.Errorf("%q: %s is read as %+v", id, dsn, c)
			}
		}
	}
}
