package drivers

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
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
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/mattn/go-sqlite3").Output()
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "static_mock.go"))
	if err != nil || !strings.Contains(string(source), stub.Error()) {
		t.Errorf("the driver that is linked says something else without cgo: %v", err)
	}
	if err := ExplainStub(io.EOF); err != io.EOF {
		t.Errorf("another error became %v", err)
	}
}
