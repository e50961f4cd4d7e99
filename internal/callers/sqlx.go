package callers

import (
	"runtime"
	"strings"
)

// BySqlx tells whether sqlx calls database/sql for the program.
func BySqlx() bool {
	var pcs [64]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for {
		frame, more := frames.Next()
		if strings.HasPrefix(frame.Function, "github.com/jmoiron/sqlx.") {
			return true
		}
		if !more {
			return false
		}
	}
}
