package drivers

import (
	"fmt"
	"strings"
)

// ExplainStub names the ways out where mattn/go-sqlite3 was built without cgo, and is a stub.
func ExplainStub(err error) error {
	if strings.Contains(err.Error(), "go-sqlite3 requires cgo") {
		return stubError{err}
	}
	return err
}

type stubError struct{ error }

func (e stubError) Error() string {
	return fmt.Sprintf("%v; build with CGO_ENABLED=1 and a C compiler, or use the driver without cgo: import _ \"modernc.org/sqlite\" and open \"sqlite:app.db\"", e.error)
}

func (e stubError) Unwrap() error { return e.error }
