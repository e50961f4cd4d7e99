package plain

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzPlain: all of a text is seen, and what is read of the JSON is the text.
func FuzzPlain(f *testing.F) {
	for _, s := range []string{"", "x", "\x1b[2J", "\u009b\x7f", "\u202e\U000e0041", "\xff\xfe\xc3", "\ufffd", "é日😀", "\u3000\u2028"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		valid := UTF8(s)
		if !utf8.ValidString(valid) || utf8.ValidString(s) != (valid == s) {
			t.Errorf("%q is %q in UTF-8", s, valid)
		}
		text, err := json.Marshal(valid)
		if err != nil {
			t.Fatal(err)
		}
		text = JSON(text)
		if i := strings.IndexFunc(string(text), IsUnseen); i >= 0 {
			t.Errorf("not all of %q is seen: %q", s, text)
		}
		var back string
		if err := json.Unmarshal(text, &back); err != nil || back != valid {
			t.Errorf("%q is read of %s, error %v", back, text, err)
		}
	})
}

func TestUTF8(t *testing.T) {
	for s, want := range map[string]string{"\xff": `\xff`, "a\xc3b": `a\xc3b`, "\ufffd\xfe": "\ufffd" + `\xfe`, "é": "é"} {
		if got := UTF8(s); got != want {
			t.Errorf("%q is %q, want %q", s, got, want)
		}
	}
}
