package mysql

import "testing"

// TestDatabaseIdentity: DSNs in one group open one database, those of different
// groups open different ones.
func TestDatabaseIdentity(t *testing.T) {
	groups := [][]string{
		{"u:p@tcp(localhost:3306)/app", "v@tcp(127.0.0.1)/app?parseTime=true", "u@/app", "u@tcp([::1]:3306)/app", "u@unix(/var/run/mysqld/mysqld.sock)/app"},
		{"u:p@tcp(localhost:3307)/app"},
		{"u:p@/w@tcp(localhost:3306)/other", "tcp/other"},
		{"u@tcp(db.example)/app", "u@tcp(DB.example:3306)/app"},
		{"u@unix(/srv/my.sock)/app"},
		{"u@cloudsql(project:region:name)/app"},
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
