package dblocker

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
)

// contain runs f, which calls the inner driver, where a panic must go no further: in the middle of
// what database/sql does for its pool, or on a goroutine of ours. It logs the panic, and returns
// it as an error. Not even contain keeps runtime.Goexit from ending the goroutine; what must
// be done then too is to be deferred.
func (c *serverConfig) contain(f func()) error { return contain(c.logger, f) }

func contain(l *slog.Logger, f func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = caught(l, p)
		}
	}()
	f()
	return nil
}

// apart is contain on a goroutine of its own, so that not even runtime.Goexit goes any further: that
// is errGoexit.
func apart(l *slog.Logger, f func()) (err error) {
	err = errGoexit
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = contain(l, f)
	}()
	<-done
	return err
}

var errGoexit = errors.New("dblocker: the driver ended its goroutine by runtime.Goexit")

// raise goes on with what contain or apart has caught, where the caller is the program's goroutine.
func raise(err error) {
	if p, ok := err.(*panicError); ok {
		panic(p.value)
	}
	if err == errGoexit {
		runtime.Goexit()
	}
}

// caught is for a deferred function that has recovered from the panic p. It logs the panic and
// returns its error.
func caught(l *slog.Logger, p any) *panicError {
	defer func() { recover() }() // the logger is the program's too
	l.Error("dblocker: the driver panicked, and its connection is closed", "panic", p, "stack", string(debug.Stack()))
	return &panicError{p}
}

// A panicError is a panic as an error.
type panicError struct{ value any }

func (e *panicError) Error() string {
	return fmt.Sprintf("dblocker: the driver panicked, and its connection is closed: %v", e.value)
}

// isPanic tells whether err is a panic.
func isPanic(err error) bool {
	_, ok := err.(*panicError)
	return ok
}

// Unwrap returns the value of the panic, if that is an error, such as a runtime.Error.
func (e *panicError) Unwrap() error {
	err, _ := e.value.(error)
	return err
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
