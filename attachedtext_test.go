package dblocker

import (
	"database/sql/driver"
	"testing"
)

// TestAttachedPath: which file an ATTACH names.
func TestAttachedPath(t *testing.T) {
	arg := []driver.NamedValue{{Ordinal: 1, Value: "/dir/a.db"}}
	for text, want := range map[string]string{
		"ATTACH '/dir/a.db' AS o":                        "/dir/a.db",
		" \n attach database '/dir/it''s.db' as o; DROP": "/dir/it's.db",
		`ATTACH "/dir/a.db" AS o`:                        "/dir/a.db",
		"ATTACH 'file:/dir/a%20b.db?mode=ro' AS o":       "/dir/a b.db",
		"ATTACH ? AS o":                                  "/dir/a.db",
		"ATTACH DATABASE :path AS o":                     "/dir/a.db",
		"ATTACH ':memory:' AS o":                         "",
		"ATTACH 'file:x?mode=memory' AS o":               "",
		"ATTACH '' AS o":                                 "",
		"ATTACH '/dir/a' || '.db' AS o":                  "/dir/a",
		"ATTACH":                                         "",
		"ATTACH '/dir/never closed":                      "/dir/never closed",
		"SELECT 1":                                       "",
	} {
		got := ""
		if beginsWithAttach(text) {
			got = attachedPath(text, arg)
		}
		if got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
