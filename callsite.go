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
	site := callSite()
	s.mu.Lock()
	known := s.seen[site] || len(s.seen) >= maxCallSites
	if !known {
		if s.seen == nil {
			s.seen = make(map[string]bool)
		}
		s.seen[site] = true
	}
	s.mu.Unlock()
	if !known {
		l.Warn("dblocker: a database operation without a user; tag its context with dblocker.WithUser", "at", site)
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
	for _, pkg := range []string{"runtime.", "database/sql.", "github.com/jmoiron/sqlx.", "github.com/calmdocs/dblocker."} {
		if strings.HasPrefix(frame.Function, pkg) {
			return !strings.HasSuffix(frame.File, "_test.go")
		}
	}
	return false
}
