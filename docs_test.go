package dblocker_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// guides are the pages for whoever works on dblocker.
var guides = []string{"ARCHITECTURE.md", "CONTRIBUTING.md"}

// TestCommandsOfTheDocs: what the commands of README, pages and guides name exists: packages, tests, benchmarks, fuzz targets, flags.
func TestCommandsOfTheDocs(t *testing.T) {
	for _, page := range append(pagesForUsers(t), guides...) {
		for _, line := range commandsIn(read(t, page)) {
			for _, wrong := range wrongInCommand(t, line) {
				t.Errorf("%s: %s: %s", page, line, wrong)
			}
		}
	}
}

// commandsIn returns the lines of a page's blocks of shell, and what it has of our commands between the words.
func commandsIn(page string) (lines []string) {
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(page, -1) {
		lines = append(lines, strings.Split(strings.TrimSpace(block[1]), "\n")...)
	}
	for _, m := range regexp.MustCompile("`((cd|go (run|test)) [^`\n]+)`").FindAllStringSubmatch(withoutCode(page), -1) {
		if m[1] != "go run ." { // of the reader's own program
			lines = append(lines, m[1])
		}
	}
	return lines
}

// TestGuidesNameWhatExists: files, directories and tests.
func TestGuidesNameWhatExists(t *testing.T) {
	tests := declared(t, `(Test|Benchmark|Fuzz)\w+`, ".", "internal/*", "compat", "compat/tools", "chaos", "bench")
	for _, page := range guides {
		text := regexp.MustCompile("(?s)```.*?```").ReplaceAllString(read(t, page), "")
		for _, m := range regexp.MustCompile("`([^`]+)`|\\]\\(([^)]+)\\)").FindAllStringSubmatch(text, -1) {
			name := m[1] + m[2]
			switch {
			case isFile.MatchString(name):
				if !isThere(name) {
					t.Errorf("%s names %s, which does not exist", page, name)
				}
			case isTest.MatchString(name) && !slices.Contains(tests, name):
				t.Errorf("%s names %s, which does not exist", page, name)
			}
		}
	}
}

// TestArchitectureNamesWhatExists: the types, functions, methods and fields that it names are declared, and it names each
// package, and each file of the root.
func TestArchitectureNamesWhatExists(t *testing.T) {
	const page = "ARCHITECTURE.md"
	text := read(t, page)
	for _, p := range order {
		if dir, _, _ := strings.Cut(p.dir, "/"); p.dir != "." && !strings.Contains(text, p.dir) && (dir == "internal" || !strings.Contains(text, dir)) {
			t.Errorf("%s does not name the package %s", page, p.dir)
		}
	}
	for _, f := range goFiles(t) {
		if path.Dir(f) == "." && !strings.HasSuffix(f, "_test.go") && !slices.ContainsFunc(inBackticks(text), func(name string) bool {
			named, _ := path.Match(name, f)
			return named
		}) {
			t.Errorf("%s does not name the file %s: add it to the table of subjects", page, f)
		}
	}
	names := declarations(t)
	options := read(t, "options.go")
	for _, m := range regexp.MustCompile("`([A-Za-z]\\w*(\\.[A-Za-z]\\w*)?)`").FindAllStringSubmatch(text, -1) {
		name := m[1]
		known := names[name] || isFile.MatchString(name) || isTest.MatchString(name) || // those are another test's
			strings.HasPrefix(name, "sql.") || strings.Contains(options, `{"`+name+`",`)
		if !known {
			t.Errorf("%s names %s, which is not declared", page, name)
		}
	}
}

func inBackticks(text string) (names []string) {
	for _, m := range regexp.MustCompile("`([^`\n]+)`").FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
	}
	return names
}

// declarations returns what is declared in the root and in internal packages: by its name, and methods and fields also by
// those of their types, as in Driver.Unwrap.
func declarations(t *testing.T) map[string]bool {
	t.Helper()
	names := make(map[string]bool)
	for _, f := range goFiles(t) {
		if strings.HasSuffix(f, "_test.go") || path.Dir(f) != "." && !strings.HasPrefix(f, "internal/") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), f, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				names[d.Name.Name] = true
				if d.Recv != nil {
					names[typeName(d.Recv.List[0].Type)+"."+d.Name.Name] = true
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					addSpec(names, spec)
				}
			}
		}
	}
	return names
}

func addSpec(names map[string]bool, spec ast.Spec) {
	switch spec := spec.(type) {
	case *ast.ValueSpec:
		for _, n := range spec.Names {
			names[n.Name] = true
		}
	case *ast.TypeSpec:
		names[spec.Name.Name] = true
		if s, ok := spec.Type.(*ast.StructType); ok {
			for _, field := range s.Fields.List {
				for _, n := range field.Names {
					names[n.Name], names[spec.Name.Name+"."+n.Name] = true, true
				}
			}
		}
	}
}

// typeName returns the name of the type of a receiver.
func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return typeName(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}

var (
	isFile = regexp.MustCompile(`^[\w./*-]+\.(go|md)$|^(bench|chaos|compat|examples|internal|\.ci)(/[\w*]+)*$`)
	isTest = regexp.MustCompile(`^(Test|Benchmark|Fuzz)[A-Z]\w*$`)
)

// isThere looks for a file or directory; a name alone may also be in an internal package.
func isThere(name string) bool {
	for _, dir := range []string{".", "internal/*", "lockpage"} {
		if found, _ := filepath.Glob(path.Join(dir, name)); len(found) > 0 {
			return true
		}
	}
	return false
}

func read(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// declared returns the names of the functions that match, in the Go files of directories.
func declared(t *testing.T, pattern string, dirs ...string) (names []string) {
	t.Helper()
	function := regexp.MustCompile(`(?m)^func (` + pattern + `)\(`)
	for _, dir := range dirs {
		files, err := filepath.Glob(path.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			for _, m := range function.FindAllStringSubmatch(read(t, f), -1) {
				names = append(names, m[1])
			}
		}
	}
	return names
}

// wrongInCommand returns what a command names that does not exist.
func wrongInCommand(t *testing.T, line string) (wrong []string) {
	t.Helper()
	dir := "."
	if there, rest, ok := strings.Cut(line, " && "); ok {
		dir, line = strings.TrimPrefix(there, "cd "), rest
	}
	words := shellWords(line)
	switch command := strings.Join(words[:min(2, len(words))], " "); {
	case command == "go test":
		return wrongInGoTest(t, words[2:], func(pkg string) []string { return []string{path.Join(dir, pkg)} })
	case command == "go run" && words[2] == "./internal/cmd/test":
		return wrongInGoTest(t, words[3:], func(string) []string { return []string{".", "internal/*", "compat", "chaos", "bench"} })
	case command == "go run":
		return wrongInProgram(t, path.Join(dir, words[2]), words[3:])
	case words[0] == "bash" && exists(path.Join(dir, words[1])):
		return nil
	case words[0] == "curl", command == "go mod", command == "go get" && words[2] == module, command == "go tool" && words[2] == "pprof":
		return nil
	}
	return []string{"this command is unknown here"}
}

// shellWords splits a line as a shell does, as far as our commands need it.
func shellWords(line string) []string {
	words := regexp.MustCompile(`'[^']*'|[^ ]+`).FindAllString(line, -1)
	for i, w := range words {
		words[i] = strings.Trim(w, "'")
	}
	return words
}

// goTestFlags are those of our commands; true if the value is a word of its own.
var goTestFlags = map[string]bool{"race": false, "v": false, "c": false, "count": false, "benchmem": false, "timeout": false, "run": true, "bench": true, "fuzz": true, "fuzztime": true, "benchtime": true}

// wrongInGoTest does that for the arguments of go test, with the directories of a package.
func wrongInGoTest(t *testing.T, args []string, dirs func(pkg string) []string) (wrong []string) {
	t.Helper()
	var in []string
	patterns := make(map[string]string)
	for i := 0; i < len(args); i++ {
		name, _, hasValue := strings.Cut(strings.TrimPrefix(args[i], "-"), "=")
		wordFollows, known := goTestFlags[name]
		switch {
		case args[i] == "./...":
			in = append(in, dirs(".")...)
		case args[i][0] != '-':
			in = append(in, dirs(args[i])...)
		case known && wordFollows && !hasValue:
			i++
			patterns[name] = args[i]
		case !known:
			patterns[name] = ""
		}
	}
	if len(in) == 0 {
		in = dirs(".")
	}
	for name, pattern := range patterns {
		kind := map[string]string{"run": "Test", "bench": "Benchmark", "fuzz": "Fuzz"}[name]
		first, _, _ := strings.Cut(pattern, "/")
		matches := func(name string) bool { return regexp.MustCompile(first).MatchString(name) }
		switch _, known := goTestFlags[name]; {
		case !known && !declaresFlag(t, name, in):
			wrong = append(wrong, "no test declares the flag -"+name)
		case kind != "" && first != "^$" && !slices.ContainsFunc(declared(t, kind+`\w*`, in...), matches):
			wrong = append(wrong, "nothing matches -"+name+" "+pattern)
		}
	}
	for _, dir := range in {
		if found, _ := filepath.Glob(path.Join(dir, "*.go")); len(found) == 0 {
			wrong = append(wrong, "there is no package "+dir)
		}
	}
	return wrong
}

// wrongInProgram does that for the arguments of a program.
func wrongInProgram(t *testing.T, dir string, args []string) (wrong []string) {
	t.Helper()
	if len(declared(t, "main", dir)) != 1 {
		wrong = append(wrong, "there is no program "+dir)
	}
	for _, arg := range args {
		if name, _, _ := strings.Cut(arg, "="); name[0] == '-' && !declaresFlag(t, name[1:], []string{dir}) {
			wrong = append(wrong, "the program has no flag "+name)
		}
	}
	return wrong
}

// declaresFlag tells whether the name of a flag stands in Go files of the directories that declare flags.
func declaresFlag(t *testing.T, name string, dirs []string) bool {
	t.Helper()
	for _, dir := range dirs {
		files, _ := filepath.Glob(path.Join(dir, "*.go"))
		for _, f := range files {
			if source := read(t, f); strings.Contains(source, "flag.") && strings.Contains(source, `"`+name+`"`) {
				return true
			}
		}
	}
	return false
}
