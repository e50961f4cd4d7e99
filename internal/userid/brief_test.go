package userid

import (
	"strings"
	"testing"
)

func TestBrief(t *testing.T) {
	for user, want := range map[string]string{
		"ann":                    `"ann"`,
		"\xff\n":                 `"\xff\n"`,
		strings.Repeat("x", 64):  `"` + strings.Repeat("x", 64) + `"`,
		strings.Repeat("日", 100): `"` + strings.Repeat("日", 21) + `"... (300 bytes)`,
	} {
		if got := Brief(user); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	many := strings.Split(strings.Repeat("x", 1000), "")
	if got, want := BriefAll(many), "["+strings.Repeat(`"x" `, 10)+"and 990 more]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := BriefAll(many[:2]); got != `["x" "x"]` {
		t.Errorf("got %s", got)
	}
}
