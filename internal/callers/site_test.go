package callers

import (
	"runtime"
	"testing"
)

// TestCallSitesAreTheProgram: no place of our own is named, in whatever package it is.
func TestCallSitesAreTheProgram(t *testing.T) {
	for _, tc := range []struct {
		function, file string
		plumbing       bool
	}{
		{"runtime.goexit", "asm.s", true},
		{"database/sql.(*DB).QueryContext", "sql.go", true},
		{"github.com/jmoiron/sqlx.Get", "sqlx.go", true},
		{"github.com/calmdocs/dblocker.(*conn).exec.func1", "conn.go", true},
		{"github.com/calmdocs/dblocker/internal/rwlock.(*Lock).Acquire", "lock.go", true},
		{"github.com/calmdocs/dblocker/internal/redact.DialError", "redact.go", true},
		{"github.com/calmdocs/dblocker.TestModes", "locking_test.go", false},
		{"github.com/calmdocs/dblocker/internal/rwlock.TestLock", "lock_test.go", false},
		{"github.com/calmdocs/dblocker/examples/files.main", "main.go", false},
		{"github.com/calmdocs/dblockers.Run", "run.go", false},
		{"github.com/calmdocs/dblocker/web.Middleware.func1.1", "web.go", false},
		{"main.main", "main.go", false},
	} {
		if got := isPlumbing(runtime.Frame{Function: tc.function, File: tc.file}); got != tc.plumbing {
			t.Errorf("%s in %s is taken for plumbing: %v, want %v", tc.function, tc.file, got, tc.plumbing)
		}
	}
}
