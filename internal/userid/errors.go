package userid

import (
	"errors"
	"fmt"
)

// ErrUserID is what each error is that says of an ID why it cannot be used.
var ErrUserID = errors.New("dblocker: the user ID cannot be used")

// Unusable returns an ErrUserID in words of its own.
func Unusable(format string, args ...any) error { return unusable(fmt.Sprintf(format, args...)) }

type unusable string

func (e unusable) Error() string { return string(e) }
func (e unusable) Unwrap() error { return ErrUserID }
