package dblocker_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/calmdocs/dblocker"

// order is the order of the packages of this module, the lowest first, each with all that it may import from
// outside the standard library. A package knows only those that stand before it. A new one gets a line here.
var order = []struct {
	dir     string
	imports []string
}{
	{"internal/bytelock", nil},
	{"internal/callers", nil},
	{"internal/drivers", nil},
	{"internal/dsnparts", nil},
	{"internal/each", nil},
	{"internal/events", nil},
	{"internal/leftovers", nil},
	{"internal/plain", nil},
	{"internal/redact", nil},
	{"internal/rwlock", nil},
	{"internal/seen", nil},
	{"internal/userid", []string{"internal/plain"}},
	{"internal/walsync", nil},
	{"internal/sqltext", nil},
	{"internal/tenants", []string{"internal/rwlock", "internal/userid"}},
	{"internal/outerpool", []string{"internal/callers"}},
	{"internal/gate", []string{"internal/bytelock", "internal/rwlock"}},
	{"internal/locks", []string{"internal/bytelock", "internal/each", "internal/gate", "internal/rwlock", "internal/userid"}},
	{"internal/server", []string{"internal/drivers", "internal/rwlock", "internal/sqltext"}},
	{"internal/scope", []string{"internal/rwlock", "internal/server"}},
	{"internal/lost", []string{"internal/locks", "internal/rwlock", "internal/server", "internal/userid"}},
	{"internal/sqlite", []string{"internal/drivers", "internal/dsnparts", "internal/gate", "internal/rwlock", "internal/seen", "internal/server", "internal/sqltext", "github.com/jmoiron/sqlx"}},
	{"internal/mysql", []string{"internal/drivers", "internal/dsnparts", "internal/server", "internal/sqltext", "github.com/jmoiron/sqlx"}},
	{"internal/postgres", []string{"internal/drivers", "internal/dsnparts", "internal/redact", "internal/server", "internal/sqltext", "github.com/jmoiron/sqlx"}},
	{"internal/engines", []string{"internal/drivers", "internal/mysql", "internal/postgres", "internal/server", "internal/sqlite", "internal/sqltext", "github.com/jmoiron/sqlx"}},
	{"internal/databases", []string{"internal/bytelock", "internal/gate", "internal/locks", "internal/scope", "internal/server", "internal/sqlite", "internal/walsync"}},
	{"internal/combine", []string{"internal/gate", "internal/locks", "internal/rwlock", "internal/server", "internal/sqlite", "internal/sqltext", "internal/walsync"}},
	{"internal/backend", []string{"internal/bytelock", "internal/combine", "internal/databases", "internal/drivers", "internal/engines", "internal/gate", "internal/locks", "internal/lost", "internal/redact", "internal/rwlock", "internal/scope", "internal/seen", "internal/server", "internal/sqlite", "internal/sqltext", "internal/walsync"}},
	{".", append([]string{
		"internal/backend",
		"internal/bytelock",
		"internal/callers",
		"internal/combine",
		"internal/databases",
		"internal/drivers",
		"internal/dsnparts",
		"internal/each",
		"internal/engines",
		"internal/events",
		"internal/gate",
		"internal/leftovers",
		"internal/locks",
		"internal/lost",
		"internal/mysql",
		"internal/outerpool",
		"internal/plain",
		"internal/postgres",
		"internal/redact",
		"internal/rwlock",
		"internal/scope",
		"internal/seen",
		"internal/server",
		"internal/sqlite",
		"internal/sqltext",
		"internal/tenants",
		"internal/userid",
		"internal/walsync",
		"github.com/jmoiron/sqlx",
	}, innerDrivers...)},

	// Packages around the root that are for programs too.
	{"dblockertest", []string{".", "internal/leftovers"}},
	{"web", []string{".", "internal/engines"}},
	{"lockpage", []string{".", "internal/plain"}},

	// Examples are programs like any user's.
	{"examples/cluster", []string{"."}},
	{"examples/files", []string{".", "github.com/jmoiron/sqlx"}},
	{"examples/shards", []string{".", "github.com/jmoiron/sqlx"}},
	{"examples/tenants", []string{"."}},
	{"examples/webserver", []string{"."}},

	// What follows is for tests.
	{"internal/fakedriver", nil},
	{"internal/debs", nil},
	{"internal/testdb", []string{"internal/debs", "github.com/go-sql-driver/mysql", "github.com/lib/pq", "go.uber.org/goleak"}},
	{"internal/cmd/test", []string{"internal/testdb"}},
	{"examples/quickstart", []string{".", "internal/testdb", "github.com/jmoiron/sqlx", "github.com/go-sql-driver/mysql"}},
}

// innerDrivers are linked by default, and left out by a build tag: only inner.go of this package may import them.
var innerDrivers = []string{"github.com/go-sql-driver/mysql", "github.com/lib/pq", "github.com/mattn/go-sqlite3"}

// forTests may be imported besides by the tests of internal packages, as may the package itself.
var forTests = []string{"internal/fakedriver", "internal/testdb"}

// TestPackagesKnowNoHigherOnes: the imports of all files, whatever system or build tag they are for, are those of the table.
func TestPackagesKnowNoHigherOnes(t *testing.T) {
	may := make(map[string][]string)
	for _, p := range order {
		for _, i := range p.imports {
			if _, lower := may[i]; isOwn(i) && !lower {
				t.Errorf("%s may import %s, which does not come before it in the table", p.dir, i)
			}
		}
		may[p.dir] = p.imports
	}
	found := make(map[string]bool)
	for _, f := range goFiles(t) {
		dir, isTest := path.Dir(f), strings.HasSuffix(f, "_test.go")
		found[dir] = true
		allowed, known := may[dir]
		if !known {
			may[dir] = nil
			t.Errorf("%s is not in the table: add a line that says what it may import", dir)
		}
		if isTest && !strings.HasPrefix(dir, "internal/") {
			continue // tests of what programs see use whatever they test it with
		}
		if isTest {
			allowed = slices.Concat(allowed, forTests, innerDrivers, []string{dir})
		}
		for _, i := range importsOf(t, f) {
			if !slices.Contains(allowed, i) {
				t.Errorf("%s imports %s: by the table in imports_test.go %s does not know it", f, i, dir)
			}
		}
	}
	for _, p := range order {
		if !found[p.dir] {
			t.Errorf("%s is in the table, but there is no such package", p.dir)
		}
	}
}

// TestInnerDriversAreImportedInOnePlace: a program that brings its own drivers can leave ours out.
func TestInnerDriversAreImportedInOnePlace(t *testing.T) {
	var files []string
	for _, f := range goFiles(t) {
		if path.Dir(f) != "." || strings.HasSuffix(f, "_test.go") {
			continue
		}
		if slices.ContainsFunc(importsOf(t, f), func(i string) bool { return slices.Contains(innerDrivers, i) }) {
			files = append(files, f)
		}
	}
	if !slices.Equal(files, []string{"inner.go"}) {
		t.Errorf("the drivers are imported by %v, want inner.go alone", files)
	}
}

// isOwn tells whether an import is of a package of this module, which is written without the module.
func isOwn(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return first == "." || !strings.Contains(first, ".")
}

// goFiles returns the Go files of this module.
func goFiles(t *testing.T) (files []string) {
	t.Helper()
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && file != "." && (d.Name()[0] == '.' || d.Name() == "testdata" || exists(filepath.Join(file, "go.mod"))):
			return fs.SkipDir
		case strings.HasSuffix(file, ".go"):
			files = append(files, filepath.ToSlash(file))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// importsOf returns what a file imports from outside the standard library, packages of this module by their directories.
func importsOf(t *testing.T, file string) (imports []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	for _, spec := range f.Imports {
		i, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(i, "/")
		switch {
		case i == module:
			imports = append(imports, ".")
		case strings.HasPrefix(i, module+"/"):
			imports = append(imports, strings.TrimPrefix(i, module+"/"))
		case strings.Contains(first, "."):
			imports = append(imports, i)
		}
	}
	return imports
}
