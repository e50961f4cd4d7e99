package dblocker_test

import (
	"testing"

	"github.com/calmdocs/dblocker"
)

// TestDatabaseNames: an ID has one name, whatever its type, and the name has the ID.
func TestDatabaseNames(t *testing.T) {
	for _, c := range []struct {
		id         any
		name, user string
	}{
		{27, "u27", "27"},
		{int64(27), "u27", "27"},
		{"27", "u27", "27"},
		{"Ann", "u_ann", "Ann"},
		{[16]byte{0x55, 15: 1}, "u55000000__0000__0000__0000__000000000001", "55000000-0000-0000-0000-000000000001"},
		{"../x", "u_02e_02e_02fx", "../x"},
	} {
		name, err := dblocker.DatabaseName(c.id)
		if name != c.name || err != nil {
			t.Errorf("%v is %q, %v; want %q", c.id, name, err, c.name)
		}
		if user, ok := dblocker.UserOf(name); user != c.user || !ok {
			t.Errorf("%q is of %q, %v; want %q", name, user, ok, c.user)
		}
	}
	for _, id := range []any{nil, "", 1.5, (*int)(nil)} {
		if name, err := dblocker.DatabaseName(id); name != "" || err == nil {
			t.Errorf("%v has the name %q, %v; want an error", id, name, err)
		}
	}
	for _, name := range []string{"", "27", "u27.db", "U27", "data/u27", "u_041"} {
		if user, ok := dblocker.UserOf(name); ok {
			t.Errorf("%q is of %q", name, user)
		}
	}
}
