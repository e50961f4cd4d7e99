package sqlite

import (
	"database/sql/driver"
	"strings"
	"testing"

	"github.com/calmdocs/dblocker/internal/sqltext"
)

// TestAttachedPath: which files the ATTACHes of a text name.
func TestAttachedPath(t *testing.T) {
	args := []driver.NamedValue{
		{Ordinal: 1, Value: "/dir/a.db"}, {Ordinal: 2, Value: []byte("/dir/b.db")},
		{Ordinal: 3, Name: "c", Value: "/dir/c.db"}, {Ordinal: 4, Value: int64(4)},
	}
	for text, want := range map[string]string{
		"ATTACH '/dir/a.db' AS o":                        "/dir/a.db",
		" \n attach database '/dir/it''s.db' as o; DROP": "/dir/it's.db",
		"ATTACH 'file:/dir/a%20b.db?mode=ro' AS o":       "/dir/a b.db",
		"ATTACH '/dir/a' AS a; ATTACH [/dir/b] AS b":     "/dir/a /dir/b",
		"ATTACH ? AS o":                         "/dir/a.db",
		"ATTACH DATABASE :path AS o":            "/dir/a.db",
		"ATTACH ?2 AS o":                        "/dir/b.db",
		"ATTACH @c AS o":                        "/dir/c.db",
		"SELECT ?; ATTACH ? AS o":               "/dir/b.db",
		"SELECT ?1, ?2, ?3, ?4; ATTACH ?1 AS o": "/dir/a.db",
		"SELECT ?, ?, ?; ATTACH ? AS o":         "",
		"ATTACH ?5 AS o":                        "",
		"ATTACH ?9223372036854775807 AS o":      "",
		"ATTACH ':memory:' AS o":                "",
		"ATTACH 'file:x?mode=memory' AS o":      "",
		"ATTACH '' AS o":                        "",
	} {
		var got []string
		for _, a := range sqltext.Attaches(text) {
			got = append(got, AttachedFile(a, args))
		}
		if got := strings.Join(got, " "); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
