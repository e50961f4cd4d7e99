package dblocker_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// A suiteSkip is a test of database/sql that cannot pass through us, because it
// looks inside the pool or at physical connections.
type suiteSkip struct {
	reason string
	says   string // regular expression of the only complaints that it may have
}

// suiteSkips must all really fail: a reason that is no longer true is to be
// deleted.
var suiteSkips = map[string]suiteSkip{
	"TestStats": {
		reason: "counts the connections of the sql.DB, which are client connections: one that has executed something is not kept",
		says:   `^stats.OpenConnections = 0; want 1$`,
	},
	"TestErrBadConnReconnect": {
		reason: "counts the connections of the sql.DB, as TestStats, and drops a statement from the handle's list (stmt.css) in the belief that its connection has gone bad: through us only the server connection has",
		says:   `^[a-zA-Z. ]+: leaked -?1 connection\(s\)!$|^while closing db, freeConn 0/1 had 1 open stmts; want 0$`,
	},
	"TestConnMaxLifetime": {
		reason: "wants SetConnMaxLifetime of the sql.DB to open and close physical connections; for those there is the option conn_max_lifetime",
		says:   `^(opens|closes) = \d; want \d$`,
	},
	"TestMaxIdleTime": {
		reason: "looks which connections SetConnMaxIdleTime closes inside the sql.DB; for physical ones there is the option conn_max_idle_time",
		says:   `^got 0s; want 1ns next check duration$|^got: 3; want 4 closed conns$`,
	},
	"TestTxStmtPreparedOnce": {
		reason: "counts what is prepared on the physical connection: a statement prepared on the sql.DB lives there only while the connection is drawn",
		says:   `^executed 2 Prepare statements; want 1$`,
	},
	"TestParentStmtOutlivesTxStmt": {
		reason: "counts what is prepared on the physical connection, as TestTxStmtPreparedOnce",
		says:   `^executed 2 Prepare statements; want 1$`,
	},
}

// TestGoSuite runs the tests of Go's own package database/sql through dblocker.
//
// It copies the package from the Go installation that runs it into a module of
// its own, changes the copy's OpenDB so that every connector is wrapped (see
// testdata/gosuite/wrap.go), and makes the tests look through the wrapping where
// they look at their fake driver. The package database/sql/driver remains the
// standard one, which is what the copy and dblocker have in common.
func TestGoSuite(t *testing.T) {
	t.Parallel()
	suite := buildGoSuite(t)
	t.Run("all", func(t *testing.T) {
		t.Parallel()
		suite.wantAll(t)
	})
	for name, skip := range suiteSkips {
		t.Run("skip "+name, func(t *testing.T) {
			t.Parallel()
			suite.wantSkip(t, name, skip)
		})
	}
}

// wantAll wants all tests to pass that are not to be skipped.
func (s goSuite) wantAll(t *testing.T) {
	skip := "^(" + strings.Join(slices.Collect(maps.Keys(suiteSkips)), "|") + ")$"
	results := s.run(t, "-test.skip", skip, "-test.timeout=5m")
	if len(results) < 100 {
		t.Errorf("only %d tests ran; database/sql has more", len(results))
	}
	for name, result := range results {
		if !result.passed {
			t.Errorf("%s fails through dblocker:\n%s", name, result.output)
		}
	}
}

// wantSkip wants a test to fail in the way for which it is to be skipped. One of them
// polls until a twentieth of its time is left for its complaint.
func (s goSuite) wantSkip(t *testing.T, name string, skip suiteSkip) {
	result := s.run(t, "-test.run", "^"+name+"$", "-test.timeout=30s")[name]
	complaints := result.complaints()
	if result.passed || len(complaints) == 0 {
		t.Errorf("%s does not fail: delete it from suiteSkips (%s)", name, skip.reason)
	}
	for _, complaint := range complaints {
		if !regexp.MustCompile(skip.says).MatchString(complaint) {
			t.Errorf("%s may be skipped because it %s; but it also says: %s", name, skip.reason, complaint)
		}
	}
}

// A goSuite is the compiled test of the copied package.
type goSuite struct{ dir, binary string }

func buildGoSuite(t *testing.T) goSuite {
	t.Helper()
	s := goSuite{dir: t.TempDir()}
	if err := os.CopyFS(s.dir, os.DirFS("testdata/gosuite")); err != nil {
		t.Fatal(err)
	}
	writeSuiteModule(t, s.dir)
	copySuitePackage(t, s.dir)
	s.binary = filepath.Join(s.dir, "suite.test")
	// Without the default inner drivers there is less to compile.
	args := []string{"test", "-c", "-tags", "dblocker_noinner", "-mod=mod", "-o", s.binary}
	if testdb.UnderRace() {
		args = append(args, "-race")
	}
	if out, err := s.command("go", args...).CombinedOutput(); err != nil {
		t.Fatalf("compiling database/sql's tests: %v\n%s", err, out)
	}
	return s
}

func (s goSuite) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = s.dir
	return cmd
}

// writeSuiteModule writes the go.mod and go.sum of the suite: those of dblocker,
// plus dblocker itself.
func writeSuiteModule(t *testing.T, dir string) {
	t.Helper()
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	mod := edit{t: t, name: "go.mod", text: readFile(t, "go.mod")}
	mod.replace("module github.com/calmdocs/dblocker\n", "module "+suiteModule+"\n")
	if v := runtime.Version(); regexp.MustCompile(`^go[0-9.]+$`).MatchString(v) {
		// The package is written in the language of its own Go version.
		mod.text = regexp.MustCompile(`(?m)^go .*$`).ReplaceAllString(mod.text, "go "+v[2:])
	}
	mod.text += fmt.Sprintf("\nrequire github.com/calmdocs/dblocker v0.0.0\nreplace github.com/calmdocs/dblocker => %s\n", strconv.Quote(root))
	writeFile(t, filepath.Join(dir, "go.mod"), mod.text)
	writeFile(t, filepath.Join(dir, "go.sum"), readFile(t, "go.sum"))
}

const suiteModule = "example.test/sql"

// copySuitePackage copies the files of database/sql, changed.
func copySuitePackage(t *testing.T, dir string) {
	t.Helper()
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatalf("go env GOROOT: %v", err)
	}
	src := filepath.Join(strings.TrimSpace(string(goroot)), "src/database/sql")
	files, _ := filepath.Glob(filepath.Join(src, "*.go"))
	looks := 0
	for _, file := range files {
		name := filepath.Base(file)
		if strings.HasPrefix(name, "example_") {
			continue // programs that are only to be read
		}
		e := edit{t: t, name: name, text: readFile(t, file)}
		e.replaceInternalImports()
		switch {
		case name == "sql.go":
			e.replace("func OpenDB(c driver.Connector) *DB {\n", "func OpenDB(c driver.Connector) *DB {\n\tc = wrapConnector(c)\n")
		case name == "sql_test.go":
			e.countPreparesBelow()
		}
		if strings.HasSuffix(name, "_test.go") {
			looks += e.unwrapFakes()
		}
		writeFile(t, filepath.Join(dir, name), e.text)
	}
	if looks < 20 {
		t.Fatalf("only %d places were found in %s where the tests look at their fake driver; it must have changed much", looks, src)
	}
}

// An edit changes the text of a file.
type edit struct {
	t    *testing.T
	name string
	text string
}

// replace replaces the only occurrence of old.
func (e *edit) replace(old, new string) {
	e.t.Helper()
	if n := strings.Count(e.text, old); n != 1 {
		e.t.Fatalf("%s contains %q %d times, want once", e.name, old, n)
	}
	e.text = strings.Replace(e.text, old, new, 1)
}

// replaceInternalImports makes a file import the stand-ins of testdata/gosuite
// for what only the standard library may import.
func (e *edit) replaceInternalImports() {
	for _, pkg := range []string{"race", "testenv", "asan"} {
		e.text = strings.ReplaceAll(e.text, `"internal/`+pkg+`"`, `"`+suiteModule+`/internal/`+pkg+`"`)
	}
	e.text = strings.ReplaceAll(e.text, `"database/sql/internal"`, `internal "`+suiteModule+`/internal/scan"`)
}

// countPreparesBelow makes the function that counts what was prepared on the only
// connection take that connection out of the pool, since it need not be in it: a
// client connection that has executed something is not used again.
func (e *edit) countPreparesBelow() {
	e.replace("\tif n := len(db.freeConn); n != 1 {\n\t\tt.Fatalf(\"free conns = %d; want 1\", n)\n\t}\n\treturn ",
		"\tconn, err := db.Conn(context.Background())\n\tif err != nil {\n\t\tt.Fatal(err)\n\t}\n\tdefer conn.Close()\n\treturn ")
	for _, count := range []string{"db.freeConn[0].ci.(*fakeConn).numPrepare", "getFakeConn(db.freeConn[0].ci).numPrepare"} {
		if strings.Contains(e.text, count) {
			e.replace(count, strings.Replace(count, "db.freeConn[0]", "conn.dc", 1))
			return
		}
	}
	e.t.Fatalf("%s does not count what is prepared as it used to", e.name)
}

// unwrapFakes makes the tests look at unwrap(x) where they look at an x that may be
// an object of their fake driver, that is in every type assertion x.(T) and at
// db.Driver(). It returns the number of places.
func (e *edit) unwrapFakes() int {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, e.name, e.text, parser.SkipObjectResolution)
	if err != nil {
		e.t.Fatal(err)
	}
	var exprs []ast.Expr
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.TypeAssertExpr:
			if n.Type != nil { // nil in a type switch
				exprs = append(exprs, n.X)
			}
		case *ast.BinaryExpr: // db.Driver() != fdriver
			if isDriverCall(n.X) {
				exprs = append(exprs, n.X)
			}
		}
		return true
	})
	// From the last to the first, so that those before keep their positions.
	slices.SortFunc(exprs, func(a, b ast.Expr) int { return cmp.Compare(b.Pos(), a.Pos()) })
	for _, x := range exprs {
		from, to := fset.Position(x.Pos()).Offset, fset.Position(x.End()).Offset
		e.text = e.text[:from] + "unwrap(" + e.text[from:to] + ")" + e.text[to:]
	}
	return len(exprs)
}

func isDriverCall(x ast.Expr) bool {
	call, ok := x.(*ast.CallExpr)
	if !ok {
		return false
	}
	f, ok := call.Fun.(*ast.SelectorExpr)
	return ok && f.Sel.Name == "Driver"
}

type suiteResult struct {
	passed bool
	output string
}

var complaint = regexp.MustCompile(`(?m)^ +\w+_test\.go:\d+: (.*)$|^(panic: .*)$`)

// complaints are the messages of a failed test.
func (r suiteResult) complaints() []string {
	var all []string
	for _, m := range complaint.FindAllStringSubmatch(r.output, -1) {
		all = append(all, m[1]+m[2])
	}
	return all
}

// run runs the tests and returns the results of the top-level ones, of which some
// are missing if the run did not come to an end.
func (s goSuite) run(t *testing.T, args ...string) map[string]suiteResult {
	t.Helper()
	args = append([]string{"tool", "test2json", s.binary, "-test.v=test2json", "-test.short"}, args...)
	out, err := s.command("go", args...).Output()
	if _, failed := err.(*exec.ExitError); err != nil && !failed {
		t.Fatal(err)
	}
	results := make(map[string]suiteResult)
	for line := range bytes.Lines(out) {
		var event struct{ Action, Test, Output string }
		if err := json.Unmarshal(line, &event); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		name, _, sub := strings.Cut(event.Test, "/")
		if name == "" {
			continue
		}
		r := results[name]
		r.output += event.Output
		if !sub && (event.Action == "pass" || event.Action == "skip") {
			r.passed = true
		}
		results[name] = r
	}
	return results
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}
