package testdb

import (
	"fmt"
	"testing"
	"time"
)

// A recorder stands in for the test of a test: it notes failures and the way the test ended, and runs the cleanups on demand.
type recorder struct {
	testing.TB
	failures string
	ended    string // "skip" or "fatal"
	cleanups []func()
}

func (r *recorder) Errorf(format string, args ...any) { r.failures += fmt.Sprintf(format, args...) }
func (r *recorder) Skip(...any)                       { r.ended = "skip" }
func (r *recorder) Fatal(...any)                      { r.ended = "fatal" }
func (r *recorder) Cleanup(f func())                  { r.cleanups = append(r.cleanups, f) }

// end is the end of the test, which waits for nothing: what is left is left on purpose.
func (r *recorder) end() {
	defer func(d time.Duration) { settle = d }(settle)
	settle = 0
	for i := len(r.cleanups) - 1; i >= 0; i-- {
		r.cleanups[i]()
	}
}
