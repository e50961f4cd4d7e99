package dblocker

import (
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
)

// maxCallSites bounds the memory of callSites.
const maxCallSites = 1000

// callSites remembers which places of the program were warned of.
type callSites struct {
	mu   sync.Mutex // guards seen
	seen map[string]bool
}

// warnOnce logs the place in the program that runs an operation without a user,
// the first time it does.
func (s *callSites) warnOnce(l *slog.Logger) {
	if site := callSite(); s.isNew(site) {
		l.Warn("dblocker: a database operation without a user; tag its context with dblocker.WithUser, or with dblocker.WithoutUser if it belongs to none", "at", site)
	}
}

// isNew tells whether it is asked about a place, or another text, for the first time.
func (s *callSites) isNew(site string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen[site] || len(s.seen) >= maxCallSites {
		return false
	}
	if s.seen == nil {
		s.seen = make(map[string]bool)
	}
	s.seen[site] = true
	return true
}

// suspectIDs are the IDs that each logger was told of. It is of the process, since some programs open
// a handle for each request.
var suspectIDs callSites

// warnOfID logs, once for each, an ID that programs have by mistake.
func (c *Connector) warnOfID(user string) {
	if suspectIDs.isNew(fmt.Sprintf("%p %s", c.logger, user)) {
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
