package compat

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// TestBuildTagLeavesInnerDriversOut builds and runs a program with the tag.
func TestBuildTagLeavesInnerDriversOut(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "noinner")
	run(t, "go", "build", "-tags", "dblocker_noinner", "-o", binary, "./noinner")

	linked := run(t, "go", "version", "-m", binary)
	for _, module := range []string{"github.com/mattn/go-sqlite3", "github.com/lib/pq", "github.com/go-sql-driver/mysql"} {
		if strings.Contains(linked, module) {
			t.Errorf("%s is linked in spite of the tag", module)
		}
	}
	if !strings.Contains(linked, "modernc.org/sqlite") {
		t.Error("the program's own driver is not linked")
	}

	stored, missing, _ := strings.Cut(run(t, binary, testdb.SQLite(t)), "\n")
	if stored != "stored" {
		t.Errorf("the program reads %q, want stored", stored)
	}
	if !strings.Contains(missing, "import") || !strings.Contains(missing, "github.com/mattn/go-sqlite3") {
		t.Errorf("the driver that was left out: %q; want an error that names the import", missing)
	}
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
