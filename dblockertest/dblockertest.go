// Package dblockertest is for tests of programs that use dblocker: [Check] finds what a test leaves behind on a database.
package dblockertest

import (
	"testing"
	"time"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/leftovers"
)

// patience is how long what is just ending, such as a transaction whose context has ended, may take for it at the end
// of a test. It is changed by tests of this package only.
var patience = 2 * time.Second

// Check fails the test at its end if it leaves something behind on a handle, and says at which place of the program that
// began: open rows, a transaction, also one that is written in SQL, a connection or a call in use, a section or a handle of
// a Store that nobody has given back, or a wait for one. It fails too if a statement has no user, also one that is refused
// for it: neither [dblocker.WithUser] nor [dblocker.WithoutUser].
//
//	func TestRename(t *testing.T) {
//		db := open(t)
//		dblockertest.Check(t, db)
//		...
//	}
//
// It looks at what begins after it is called, so prepare tables before. It looks when the test and its deferred functions
// have ended, and the functions of t.Cleanup that were registered later. What is just ending gets two seconds for it.
//
// db is any handle that was opened through dblocker: a *[database/sql.DB], a *sqlx.DB, DB of a [dblocker.Store] for all
// of the handles that the Store gives out. Tests that run in parallel best have a handle each. If they share one, nobody can
// tell whose a leftover is: the last of them to end fails, with the place.
func Check(t testing.TB, db dblocker.Handle) {
	t.Helper()
	test, err := leftovers.Begin(t.Context(), db, t.Name())
	if err != nil {
		t.Fatalf("dblockertest: %v", err)
		return
	}
	t.Cleanup(func() {
		t.Helper()
		for _, text := range test.End(patience) {
			t.Errorf("dblockertest: %s", text)
		}
	})
}
