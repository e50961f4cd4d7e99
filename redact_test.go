package dblocker

import (
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
)

// oddPasswords makes passwords of letters, digits and what a DSN should escape.
func oddPasswords(n int, seed uint64) []string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	const odd = " @:/?#%'\"\\=&()+;,[]<>~`"
	r := rand.New(rand.NewPCG(seed, seed))
	passwords := make([]string, n)
	for i := range passwords {
		b := make([]byte, 8+r.IntN(12))
		for j := range b {
			b[j] = letters[r.IntN(len(letters))]
			if r.IntN(6) == 0 {
				b[j] = odd[r.IntN(len(odd))]
			}
		}
		passwords[i] = string(b)
	}
	return passwords
}

// TestNoErrorShowsAPassword: neither of a DSN that a driver can read, nor of one that it cannot or
// reads wrongly, because the password is not escaped.
func TestNoErrorShowsAPassword(t *testing.T) {
	forms := []struct{ driver, dsn string }{
		{"dblocker", "postgres://ann:%s@127.0.0.1:1/db?sslmode=disable"},
		{"dblocker", "postgres:postgres://ann:%s@127.0.0.1:1/db"},
		{"dblocker", "postgres://ann:%s"},
		{"postgres-dblocker", "postgres://127.0.0.1:1/db?sslmode=disable&password=%s"},
		{"postgres-dblocker", "host=127.0.0.1 port=1 password=%s sslmode=disable"},
		{"postgres-dblocker", "host=127.0.0.1 port=1 user=ann password = '%s' dbname=db"},
		{"postgres-dblocker", "host=127.0.0.1 port=1 user=ann password=%s"},
		{"postgres-dblocker", "//ann:%s@127.0.0.1:1/db"},
		{"dblocker", "mysql://ann:%s@127.0.0.1:1/db"},
		{"dblocker", "mysql:ann:%s@tcp(127.0.0.1:1)/db"},
		{"mysql-dblocker", "ann:%s@tcp(127.0.0.1:1)/db?loc=Europe/Berlin"},
		{"mysql-dblocker", "ann:%s@127.0.0.1:1/db"},
		{"mysql-dblocker", "ann:%s@tcp(127.0.0.1:1"},
		{"mysql-dblocker", "ann:%s"},
	}
	shown, failed := 0, 0
	for i, password := range oddPasswords(1500, 7) {
		form := forms[i%len(forms)]
		for _, written := range []string{password, url.QueryEscape(password)} {
			if strings.HasSuffix(form.dsn, "ann:%s") && strings.ContainsAny(written, "@:") {
				continue // it names a host
			}
			dsn := strings.ReplaceAll(form.dsn, "%s", written)
			err := openError(form.driver, dsn)
			if err == nil {
				continue
			}
			failed++
			if piece := longestPiece(err.Error(), password); len(piece) >= 4 && !strings.Contains(form.dsn, piece) {
				if shown++; shown <= 10 {
					t.Errorf("%s %q: the error shows %q of the password: %v", form.driver, dsn, piece, err)
				}
			}
		}
	}
	if failed < 1000 {
		t.Errorf("only %d of the DSNs failed: the test has seen too few errors", failed)
	}
	if shown > 10 {
		t.Errorf("%d of %d errors show a piece of the password", shown, failed)
	}
}

// longestPiece returns the longest piece of the password that stands in a text.
func longestPiece(text, password string) (longest string) {
	for i := range password {
		for j := i + len(longest) + 1; j <= len(password) && strings.Contains(text, password[i:j]); j++ {
			longest = password[i:j]
		}
	}
	return longest
}
