package dblocker

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/calmdocs/dblocker/internal/seen"
)

// warnUntagged logs the place in the program that runs an operation without a user,
// the first time it does.
func (c *handle) warnUntagged() {
	if site := callSite(); c.calls.IsNew(site) {
		c.logger.Warn("dblocker: a database operation without a user; tag its context with dblocker.WithUser, or with dblocker.WithoutUser if it belongs to none", "at", site)
	}
}

// suspectIDs are the IDs that each logger was told of. It is of the process, since some programs open
// a handle for each request.
var suspectIDs seen.Set

// warnOfID logs, once for each, an ID that programs have by mistake.
func (c *handle) warnOfID(user string) {
	if suspectIDs.IsNew(fmt.Sprintf("%p %s", c.logger, user)) {
		c.logger.Warn("dblocker: the user ID is one that programs often have for a user who is not logged in; all of these share one lock. "+
			"Give each user an ID of its own, or use dblocker.WithoutUser", "user", user, "at", callSite())
	}
}

// callSite returns the place that called into database/sql, or into sqlx.
func callSite() string {
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
