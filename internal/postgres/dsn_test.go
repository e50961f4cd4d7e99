package postgres

import "testing"

// TestDatabaseIdentity: DSNs in one group open one database, those of different
// groups open different ones.
func TestDatabaseIdentity(t *testing.T) {
	t.Setenv("PGHOST", "")
	t.Setenv("PGPORT", "")
	t.Setenv("PGDATABASE", "")
	t.Setenv("PGUSER", "")
	groups := [][]string{
		{"postgres://u:p@localhost/app", "postgres://v@127.0.0.1:5432/app?sslmode=disable", "host=localhost dbname=app", "dbname = 'app' host=LOCALHOST port=5432",
			"host=/var/run/postgresql dbname=app", "postgresql://[::1]/app", "host=/tmp user=x dbname=app", "postgres:///app?host=localhost", "user=app"},
		{"postgres://u@localhost:5433/app", "host=localhost port=5433 user=u dbname=app"},
		{"postgres://u@db.example/app", "host=DB.EXAMPLE. dbname=app user=x"},
		{"postgres://u@localhost/App"},
		{"postgres://a:1,b:2/app", "postgres://u@A:1,b:2/app?sslmode=disable"},
		{`host=localhost dbname='a\'b c'`, "postgres://u@localhost/a'b%20c"},
	}
	seen := make(map[string]int)
	for i, group := range groups {
		for _, dsn := range group {
			id := database(dsn)
			if id == "" || id != database(group[0]) {
				t.Errorf("%q is database %q, but %q is %q", dsn, id, group[0], database(group[0]))
			}
			if j, ok := seen[id]; ok && j != i {
				t.Errorf("groups %d and %d are both database %q", i, j, id)
			}
			seen[id] = i
		}
	}
}

// TestUnreadableDSNsAreTheirOwnIdentity: such handles share their locks with others
// of the very same DSN.
func TestUnreadableDSNsAreTheirOwnIdentity(t *testing.T) {
	for _, dsn := range []string{"nonsense", "user='x"} {
		if id := database(dsn); id != dsn {
			t.Errorf("%q: got identity %q, want the DSN", dsn, id)
		}
	}
}
