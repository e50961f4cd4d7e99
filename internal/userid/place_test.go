package userid

import (
	"strings"
	"testing"
)

// TestTooLongIsAnError, in words, for the last byte too many and not before.
func TestTooLongIsAnError(t *testing.T) {
	for _, p := range []struct {
		place         Place
		before, after string
		max           int // characters of an ID
	}{
		{FileName, "", ".db", 196},
		{FileName, "tenant-", ".sqlite3", 184},
		{PostgreSQL, "", "", 62},
		{PostgreSQL, "app_", "", 58},
		{MySQL, "", "_v2", 60},
	} {
		for _, n := range []int{1, p.max} {
			user := strings.Repeat("7", n)
			if err := p.place.Check(p.before+Encode(user)+p.after, user); err != nil {
				t.Errorf("%+v, %d bytes: %v", p, n, err)
			}
		}
		for _, user := range []string{strings.Repeat("7", p.max+1), strings.Repeat("\x00", 10<<10)} {
			err := p.place.Check(p.before+Encode(user)+p.after, user)
			if err == nil || !strings.Contains(err.Error(), p.place.what) || len(err.Error()) > 600 {
				t.Errorf("%+v, %d bytes: want an error in words, got %.800v", p, len(user), err)
			}
		}
	}
}

// TestUsualIDsFitEverywhere: those that programs have.
func TestUsualIDsFitEverywhere(t *testing.T) {
	for _, user := range []string{
		"18446744073709551615", "550e8400-e29b-41d4-a716-446655440000", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "0ujtsYcgvSTl8PAuAdqWYSMnLOv",
		"user_2NNEqL2nrIRdJ194ndJqAHwEfxC", "auth0|5f7c8ec7c33c6c004bbafe82", "piaf8Jc4FDeSnqbXRZ8iTqoVUw53", "firstname.lastname@example.com",
	} {
		for _, p := range []Place{FileName, PostgreSQL, MySQL} {
			if err := p.Check(Encode(user), user); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestDevicesAreNoFiles: with the text before it, a name may become that of a device.
func TestDevicesAreNoFiles(t *testing.T) {
	for name, reserved := range map[string]bool{
		"aux.db": true, "aux": true, "AUX.db": true, "nul.tar.gz": true, "con .db": true, "com1.db": true, "lpt9": true, "com².db": true, "conin$": true,
		"uaux.db": false, "auxu1.db": false, "u1.db": false, "com10.db": false, "com.db": false, "ucon": false,
	} {
		if err := FileName.Check(name, "x"); (err != nil) != reserved {
			t.Errorf("%s: %v", name, err)
		}
		if err := PostgreSQL.Check(name, "x"); err != nil {
			t.Error(err)
		}
	}
	for _, user := range hostile {
		if isReserved(Encode(user) + ".db") {
			t.Errorf("%q is the name of a device", user)
		}
	}
}
