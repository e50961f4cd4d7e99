package dblocker

import (
	"fmt"
	"log/slog"
	"runtime/debug"
)

// contain runs f, which calls the inner driver, where a panic must go no further: in the middle of
// what database/sql does for its pool, or on a goroutine of ours. It logs the panic, and returns
// it as an error. Not even contain keeps runtime.Goexit from ending the goroutine; what must
// be done then too is to be deferred.
func (c *config) contain(what string, f func()) error { return contain(c.logger, what, f) }

func contain(l *slog.Logger, what string, f func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("dblocker: the driver panicked in %s: %v", what, p)
			logPanic(l, what, p)
		}
	}()
	f()
	return nil
}

// logPanic is for a deferred function that has recovered from the panic p.
func logPanic(l *slog.Logger, what string, p any) {
	defer func() { recover() }() // the logger is the program's too
	l.Error("dblocker: the driver panicked where nobody could be told; its connection is closed",
		"in", what, "panic", p, "stack", string(debug.Stack()))
}

// each calls f for all, in their order: also for those that come after one for which f
// panics or ends the goroutine.
func each[T any](all []T, f func(T)) {
	for len(all) > 0 {
		first := all[0]
		all = all[1:]
		returned := false
		func() {
			defer func() {
				if !returned {
					each(all, f)
				}
			}()
			f(first)
			returned = true
		}()
	}
}
