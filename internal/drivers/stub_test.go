package drivers

import (
	"errors"
	"io"
	"strings"
	"testing"
)

// TestStubOfSQLiteNamesTheWayOut: of a program that was built without cgo.
func TestStubOfSQLiteNamesTheWayOut(t *testing.T) {
	stub := errors.New("Binary was compiled with 'CGO_ENABLED=0', go-sqlite3 requires cgo to work. This is a stub")
	err := ExplainStub(stub)
	if !errors.Is(err, stub) || !strings.Contains(err.Error(), "modernc.org/sqlite") {
		t.Errorf("got %v", err)
	}
	if err := ExplainStub(io.EOF); err != io.EOF {
		t.Errorf("another error became %v", err)
	}
}
