// Package callers looks up the stack of a call of database/sql for what database/sql does not tell: where in the
// program it began, and by which method.
package callers

import (
	"fmt"
	"runtime"
	"strings"
)

// Site returns the place that called into database/sql, or into sqlx.
func Site() string {
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for {
		frame, more := frames.Next()
		if !isPlumbing(frame) {
			return fmt.Sprintf("%s:%d", frame.File, frame.Line)
		}
		if !more {
			return "unknown"
		}
	}
}

func isPlumbing(frame runtime.Frame) bool {
	for _, pkg := range []string{"runtime.", "database/sql.", "github.com/jmoiron/sqlx.", "github.com/calmdocs/dblocker.", "github.com/calmdocs/dblocker/internal/"} {
		if strings.HasPrefix(frame.Function, pkg) {
			return !strings.HasSuffix(frame.File, "_test.go")
		}
	}
	return false
}
