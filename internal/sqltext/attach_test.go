package sqltext

import (
	"slices"
	"testing"
)

func TestAttaches(t *testing.T) {
	file := func(names ...string) (want []Attach) {
		for _, name := range names {
			want = append(want, Attach{File: name})
		}
		return want
	}
	param := func(name string, before int) []Attach { return []Attach{{Param: name, Before: before}} }
	for text, want := range map[string][]Attach{
		"ATTACH 'a.db' AS o":                                             file("a.db"),
		" \n\ufeffattach database 'it''s.db' as o; DROP":                 file("it's.db"),
		`ATTACH "a""b.db" AS o`:                                          file(`a"b.db`),
		"ATTACH `a``b.db` AS o":                                          file("a`b.db"),
		"ATTACH [a b.db] AS o":                                           file("a b.db"),
		"ATTACH [a''b] AS o":                                             file("a''b"),
		"ATTACH a AS o":                                                  file("a"),
		"ATTACH DATABASE a AS o KEY 'k'":                                 file("a"),
		`ATTACH "DATABASE" AS o`:                                         file("DATABASE"),
		`ATTACH 'C:\dir\' AS o`:                                          file(`C:\dir\`),
		"ATTACH'a.db'AS o":                                               file("a.db"),
		"/* app */ ATTACH 'a.db' AS o":                                   file("a.db"),
		"-- x;\n ATTACH -- y\n DATABASE /* 'b' */ 'a.db' --\nAS":         file("a.db"),
		"SELECT 1; ATTACH 'a.db' AS o":                                   file("a.db"),
		";; ATTACH 'a' AS a;ATTACH 'b' AS b; SELECT 1; ATTACH 'c' AS c;": file("a", "b", "c"),
		"ATTACH 'a' || 'b' AS a; ATTACH 'c' AS c":                        file("c"),
		"ATTACH 'a' AS a; SELECT 'never closed":                          file("a"),
		"ATTACH 'a' AS a /* never closed":                                file("a"),

		"ATTACH ? AS o":                          param("?", 0),
		"ATTACH ?12 AS o":                        param("?12", 0),
		"ATTACH DATABASE :path AS o":             param(":path", 0),
		"ATTACH @path AS o":                      param("@path", 0),
		"ATTACH $1 AS o":                         param("$1", 0),
		"SELECT ?, :a, ?3, '?'; ATTACH ? AS o":   param("?", 3),
		"ATTACH ? || '.db' AS o; ATTACH ? AS o":  param("?", 1),
		"ATTACH ? AS a; ATTACH ?1 AS b":          {{Param: "?"}, {Param: "?1", Before: 1}},
		"SELECT '; ATTACH ? AS o', ?; SELECT 1;": nil,

		"":                                   nil,
		"ATTACH":                             nil,
		"ATTACH DATABASE":                    nil,
		"ATTACH ; SELECT 1":                  nil,
		"ATTACH '' AS o":                     nil,
		"ATTACH NULL AS o":                   nil,
		"ATTACH 5 AS o":                      nil,
		"ATTACH x'61' AS o":                  nil,
		"ATTACH lower('A') AS o":             nil,
		"ATTACH (SELECT f FROM t) AS o":      nil,
		"ATTACH main.a AS o":                 nil,
		"ATTACH 'never closed":               nil,
		"ATTACH $a(1) AS o":                  nil,
		"SELECT '; ATTACH ''a'' AS o; '":     nil,
		`SELECT "; ATTACH 'a' AS o; "`:       nil,
		"SELECT 1 /* ; ATTACH 'a' AS o; */":  nil,
		"SELECT 1 -- ; ATTACH 'a' AS o":      nil,
		"SELECT [; ATTACH 'a' AS o;] FROM t": nil,
		"SELECT attach 'a' AS o":             nil,
		"EXPLAIN ATTACH 'a' AS o":            nil,
		`"ATTACH" 'a' AS o`:                  nil,
		"DETACH a":                           nil,
	} {
		if got := Attaches(text); !slices.Equal(got, want) {
			t.Errorf("%s: got %+v, want %+v", text, got, want)
		}
	}
}
