package compat

import (
	"database/sql"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
)

// TestPgxErrorsShowNoPassword: pgx reads the DSN when it connects, and its error quotes what it could not read.
func TestPgxErrorsShowNoPassword(t *testing.T) {
	forms := []string{
		"postgres://ann:%s@127.0.0.1:1/db?sslmode=disable",
		"postgres://127.0.0.1:1/db?sslmode=disable&password=%s",
		"host=127.0.0.1 port=1 user=ann sslmode=disable password=%s",
		"host=127.0.0.1 port=1 user=ann sslmode=disable password='%s' dbname=db",
	}
	const letters, odd = "abcdefghijklmnopqrstuvwxyz0123456789", " @:/?#%'\"\\=&()+;,[]<>~`"
	r := rand.New(rand.NewPCG(1, 2))
	failed := 0
	for n := range 400 {
		b := make([]byte, 8+r.IntN(12))
		for i := range b {
			b[i] = letters[r.IntN(len(letters))]
			if r.IntN(6) == 0 {
				b[i] = odd[r.IntN(len(odd))]
			}
		}
		password, form := string(b), forms[n%len(forms)]
		for _, written := range []string{password, url.QueryEscape(password)} {
			dsn := strings.ReplaceAll(form, "%s", written)
			db, err := sql.Open("pgx-dblocker", dsn)
			if err == nil {
				err = db.Ping()
				db.Close()
			}
			if err == nil {
				continue
			}
			failed++
			for i := 0; i+4 <= len(password); i++ {
				if piece := password[i : i+4]; strings.Contains(err.Error(), piece) && !strings.Contains(form, piece) {
					t.Errorf("%q: the error shows %q of the password: %v", dsn, piece, err)
					break
				}
			}
		}
	}
	if failed < 400 {
		t.Errorf("only %d of the DSNs failed: the test has seen too few errors", failed)
	}
}
