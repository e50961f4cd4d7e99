package server

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
)

// Contain runs f, which calls the inner driver, where a panic must go no further: in the middle of
// what database/sql does for its pool, or on a goroutine of ours. It logs the panic, and returns
// it as an error. Not even Contain keeps runtime.Goexit from ending the goroutine; what must
// be done then too is to be deferred.
func Contain(l *slog.Logger, f func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = Caught(l, p)
		}
	}()
	f()
	return nil
}

// apart is Contain on a goroutine of its own, so that not even runtime.Goexit goes any further: that
// is errGoexit.
func apart(l *slog.Logger, f func()) (err error) {
	err = errGoexit
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = Contain(l, f)
	}()
	<-done
	return err
}

// errGoexit is what apart returns if the goroutine was ended.
var errGoexit = errors.New("dblocker: the driver ended its goroutine by runtime.Goexit")

// Raise goes on with what Contain or apart has caught, where the caller is the program's goroutine.
func Raise(err error) {
	if p, ok := err.(*PanicError); ok {
		panic(p.Value)
	}
	if err == errGoexit {
		runtime.Goexit()
	}
}

// Caught is for a deferred function that has recovered from the panic p. It logs the panic and
// returns its error.
func Caught(l *slog.Logger, p any) *PanicError {
	defer func() { recover() }() // the logger is the program's too
	l.Error("dblocker: the driver panicked, and its connection is closed", "panic", p, "stack", string(debug.Stack()))
	return &PanicError{p}
}

// A PanicError is a panic as an error.
type PanicError struct{ Value any }

func (e *PanicError) Error() string {
	return fmt.Sprintf("dblocker: the driver panicked, and its connection is closed: %v", e.Value)
}

// IsPanic tells whether err is a panic.
func IsPanic(err error) bool {
	_, ok := err.(*PanicError)
	return ok
}

// Unwrap returns the value of the panic, if that is an error, such as a runtime.Error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}
