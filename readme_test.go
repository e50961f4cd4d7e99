package dblocker_test

import (
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// pagesForUsers returns the README and the pages that it leads to.
func pagesForUsers(t *testing.T) []string {
	t.Helper()
	pages, err := filepath.Glob("docs/*.md")
	if err != nil || len(pages) < 10 {
		t.Fatalf("the pages of docs: %v, %v", pages, err)
	}
	return append(pages, "README.md", "CHANGELOG.md", "SECURITY.md", "examples/README.md")
}

// TestReadmeIsShort: it is the first screen; what is longer belongs on a page of docs.
func TestReadmeIsShort(t *testing.T) {
	text := read(t, "README.md")
	if lines := strings.Count(text, "\n"); lines > 150 || len(text) > 9*1024 {
		t.Errorf("the README has %d lines and %d bytes; the most is 150 lines and %d bytes", lines, len(text), 9*1024)
	}
	words, sentences := 0, 0
	for _, s := range regexp.MustCompile(`[.!?](\s|$)|\n\s*\n|\n- |\n\d\. `).Split(prose(text), -1) {
		if n := len(strings.Fields(s)); n > 1 {
			words, sentences = words+n, sentences+1
		}
	}
	if sentences == 0 || float64(words)/float64(sentences) > 15 {
		t.Errorf("the README has %d words in %d sentences; the most is 15 words a sentence", words, sentences)
	}
}

// prose returns what a page has besides code, tables, headings and pictures.
func prose(page string) string {
	var kept []string
	for _, line := range strings.Split(withoutCode(page), "\n") {
		if line != "" && strings.ContainsRune("|#!", rune(line[0])) {
			line = ""
		}
		kept = append(kept, line)
	}
	return regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`).ReplaceAllString(strings.Join(kept, "\n"), "$1")
}

func withoutCode(page string) string {
	return regexp.MustCompile("(?s)```.*?```").ReplaceAllString(page, "")
}

// TestReadmeSnippets: every Go snippet of the README and of the pages stands in a file that the compiler has read:
// snippets_test.go or an example. One that is a whole program is an example, which a test runs.
func TestReadmeSnippets(t *testing.T) {
	programs, err := filepath.Glob("examples/*/main.go")
	if err != nil {
		t.Fatal(err)
	}
	tools, err := filepath.Glob("compat/tools/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var compiled strings.Builder
	for _, f := range append(append(programs, tools...), "snippets_test.go", "example_test.go", "pgxfold/example_test.go", "web/compat/frameworks_test.go", "web/compat/page_test.go") {
		compiled.WriteString(withoutIndent(read(t, f)))
	}
	for _, page := range append(pagesForUsers(t), guides...) {
		for _, m := range regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(read(t, page), -1) {
			if strings.HasPrefix(m[1], "package ") {
				checkProgram(t, page, m[1], programs)
			} else if !strings.Contains(compiled.String(), withoutIndent(m[1])) {
				t.Errorf("%s: not compiled anywhere:\n%s", page, m[1])
			}
		}
	}
	if n := strings.Count(read(t, "README.md"), "```go\npackage main\n"); n != 1 {
		t.Errorf("the README has %d whole programs; it needs one", n)
	}
}

// checkProgram looks for the example that the program is, without the comment before it.
func checkProgram(t *testing.T, page, program string, examples []string) {
	t.Helper()
	i := slices.IndexFunc(examples, func(f string) bool { return strings.HasSuffix(read(t, f), "\n"+program) })
	if i < 0 {
		t.Errorf("%s: a whole program that is none of the examples:\n%s", page, program)
		return
	}
	if tests, _ := filepath.Glob(path.Join(path.Dir(examples[i]), "*_test.go")); len(tests) == 0 {
		t.Errorf("%s: no test runs %s", page, examples[i])
	}
}

func withoutIndent(code string) string {
	return regexp.MustCompile(`(?m)^[\t ]+`).ReplaceAllString(code, "")
}

// TestReadmeNamesTests: the tests that the README and the pages name exist.
func TestReadmeNamesTests(t *testing.T) {
	var sources strings.Builder
	for _, pattern := range []string{"*_test.go", "compat/*_test.go", "web/*/*_test.go", "internal/*/*_test.go", "chaos/*_test.go", "chaos/*/*_test.go", "lockpage/*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			sources.WriteString(read(t, f))
		}
	}
	tools, err := filepath.Glob("compat/tools/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range tools {
		sources.WriteString(read(t, f))
	}
	for _, page := range pagesForUsers(t) {
		for _, name := range regexp.MustCompile(`\b(Test|Fuzz)[A-Z]\w+`).FindAllString(read(t, page), -1) {
			if !strings.Contains(sources.String(), "func "+name+"(") {
				t.Errorf("%s names %s, which does not exist", page, name)
			}
		}
	}
}

// TestReadmePromisesHaveTests: each promise names what would fail without it.
func TestReadmePromisesHaveTests(t *testing.T) {
	promises := 0
	for _, line := range strings.Split(read(t, "docs/guarantees.md"), "\n") {
		if !strings.HasPrefix(line, "| ") || line == "| promise | tests |" {
			continue
		}
		promises++
		cells := strings.Split(line, " | ")
		if !regexp.MustCompile("`(Test\\w+|compat|chaos|internal/\\w+)`").MatchString(cells[len(cells)-1]) {
			t.Errorf("this promise names no test: %s", line)
		}
	}
	if promises < 40 {
		t.Errorf("docs/guarantees.md has only %d promises", promises)
	}
}

// TestReadmeLinks: what is linked in this repository exists, files and headings.
func TestReadmeLinks(t *testing.T) {
	for _, page := range append(pagesForUsers(t), guides...) {
		for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(withoutCode(read(t, page)), -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			file := page
			if target != "" {
				file = path.Join(path.Dir(page), target)
			}
			if !exists(file) {
				t.Errorf("%s links %s, which does not exist", page, m[1])
			} else if anchor != "" && !slices.Contains(anchors(read(t, file)), anchor) {
				t.Errorf("%s links %s, but %s has no such heading", page, m[1], file)
			}
		}
	}
}

// anchors returns those that GitHub makes of the headings of a page.
func anchors(page string) (names []string) {
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(withoutCode(page), -1) {
		names = append(names, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, m[1]))
	}
	return names
}

// TestReadmeLeadsEverywhere: a page that nothing links is not found.
func TestReadmeLeadsEverywhere(t *testing.T) {
	readme := read(t, "README.md")
	for _, page := range pagesForUsers(t) {
		if page != "README.md" && !strings.Contains(readme, "]("+page) {
			t.Errorf("the README has no link to %s", page)
		}
	}
	programs, err := filepath.Glob("examples/*/main.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range programs {
		if dir := path.Base(path.Dir(f)); !strings.Contains(read(t, "examples/README.md"), "| ["+dir+"]("+dir+"/main.go) | ") {
			t.Errorf("examples/README.md has no line for %s", dir)
		}
	}
}

// TestReadmeOptions: each option has a row in the table of the page, with its function, and so has it in the table of the package documentation.
func TestReadmeOptions(t *testing.T) {
	page, source := read(t, "docs/options.md"), rootSource(t)
	keys := regexp.MustCompile(`(?m)^\t\{"(\w+)", `).FindAllStringSubmatch(read(t, "options.go"), -1)
	if len(keys) < 20 {
		t.Fatalf("found only %d options", len(keys))
	}
	for _, m := range keys {
		key := m[1]
		row := regexp.MustCompile("(?m)^\\| `" + key + "` \\| `(\\w+)` \\| [^|]+ \\| [^|]+ \\| [^|]+ \\|$").FindStringSubmatch(page)
		if row == nil {
			t.Errorf("docs/options.md has no row of five cells for %s", key)
			continue
		}
		if !strings.Contains(source, "\nfunc "+row[1]+"(") || !strings.Contains(source, `option("`+key+`", `) {
			t.Errorf("docs/options.md has %s for %s, which is not its function", row[1], key)
		}
		if !regexp.MustCompile(`(?m)^//\t` + key + ` +` + row[1] + ` +\S`).MatchString(read(t, "doc.go")) {
			t.Errorf("the table in doc.go has no row for %s, %s", key, row[1])
		}
	}
}

// rootSource returns the Go files of the root package without its tests.
func rootSource(t *testing.T) string {
	t.Helper()
	var source strings.Builder
	for _, f := range goFiles(t) {
		if path.Dir(f) == "." && !strings.HasSuffix(f, "_test.go") {
			source.WriteString(read(t, f))
		}
	}
	return source.String()
}

// TestReadmeErrors: the page of errors has a row for each error that is exported.
func TestReadmeErrors(t *testing.T) {
	page := read(t, "docs/errors.md")
	names := regexp.MustCompile(`(?m)^(?:var |\t)(Err[A-Z]\w*)[ \t]+(?:error +)?=`).FindAllStringSubmatch(rootSource(t), -1)
	if len(names) < 9 {
		t.Fatalf("found only %d errors", len(names))
	}
	for _, m := range names {
		if !strings.Contains(page, "\n| `"+m[1]+"` | ") {
			t.Errorf("docs/errors.md has no row for %s", m[1])
		}
	}
}

// TestReadmeIndex: the package documentation leads to each function that is exported, by its index or its table of options.
func TestReadmeIndex(t *testing.T) {
	doc := read(t, "doc.go")
	for _, m := range regexp.MustCompile(`(?m)^func ([A-Z]\w*)\(`).FindAllStringSubmatch(rootSource(t), -1) {
		if !strings.Contains(doc, "["+m[1]+"]") && !regexp.MustCompile(`(?m)^//\t\w+ +`+m[1]+` `).MatchString(doc) {
			t.Errorf("doc.go does not name %s", m[1])
		}
	}
}

// TestReadmeFigures: the README has no figure that the page of benchmarks has not, and each table there has a command.
func TestReadmeFigures(t *testing.T) {
	page, readme := read(t, "docs/benchmarks.md"), read(t, "README.md")
	for _, line := range strings.Split(readme, "\n") {
		if !strings.HasPrefix(line, "| ") && !strings.Contains(line, "operations") {
			continue
		}
		for _, figure := range regexp.MustCompile(`\b\d[\d,.]*\d\b`).FindAllString(line, -1) {
			if figure != "56" && !strings.Contains(page, figure) { // goroutines: 8 users, 7 each
				t.Errorf("the README has the figure %s, which is not in docs/benchmarks.md: %s", figure, line)
			}
		}
	}
	for _, section := range regexp.MustCompile(`(?m)^##+ `).Split(page, -1)[1:] {
		title, _, _ := strings.Cut(section, "\n")
		if strings.Contains(section, "\n|---") && !strings.Contains(section, "```sh\n") {
			t.Errorf("docs/benchmarks.md: the tables of %q have no command", title)
		}
	}
}

// TestReadmeLogLines: the lines of the log that the page has are lines that are logged, and the fields of Statistics are all there.
func TestReadmeLogLines(t *testing.T) {
	page := read(t, "docs/watching.md")
	var source strings.Builder
	for _, f := range goFiles(t) {
		if !strings.HasSuffix(f, "_test.go") {
			source.WriteString(read(t, f))
		}
	}
	_, lines, _ := strings.Cut(page, "## Lines in the log")
	rows := regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ").FindAllStringSubmatch(lines, -1)
	if len(rows) < 10 {
		t.Errorf("found only %d lines of the log", len(rows))
	}
	for _, m := range rows {
		if !strings.Contains(source.String(), `"dblocker: `+m[1]) {
			t.Errorf("docs/watching.md has a line that is never logged: %s", m[1])
		}
	}
	_, statistics, _ := strings.Cut(read(t, "stats.go"), "type Statistics struct {")
	statistics, _, _ = strings.Cut(statistics, "\n}")
	for _, m := range regexp.MustCompile(`(?m)^\t([A-Z][\w, ]*?) +[\w.]+( +//.*)?$`).FindAllStringSubmatch(statistics, -1) {
		for _, field := range strings.Split(m[1], ", ") {
			if !strings.Contains(page, "`"+field+"`") {
				t.Errorf("docs/watching.md does not name the field %s of Statistics", field)
			}
		}
	}
}

// TestReadmeVersions: the versions that the pages name are those that the tests are built with.
func TestReadmeVersions(t *testing.T) {
	modules := read(t, "go.mod") + read(t, "compat/go.mod") + read(t, "compat/tools/go.mod")
	for _, m := range regexp.MustCompile("`([\\w./-]+ v[\\d.]+)`").FindAllStringSubmatch(read(t, "docs/versions.md"), -1) {
		if !strings.Contains(modules, m[1]+"\n") {
			t.Errorf("docs/versions.md names %s, which no go.mod of the tests requires", m[1])
		}
	}
	lowest := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "go.mod"))[1]
	for _, page := range []string{"README.md", "docs/versions.md"} {
		if !strings.Contains(read(t, page), lowest) {
			t.Errorf("%s does not name the lowest version of Go, %s", page, lowest)
		}
	}
	checked := regexp.MustCompile(`(?m)^(lowest|newest)_go=go([\d.]+)`).FindAllStringSubmatch(read(t, ".ci/run"), -1)
	if len(checked) != 2 || !strings.HasPrefix(checked[0][2], lowest+".") {
		t.Errorf(".ci/run has the versions of Go %q; the first should be one of %s", checked, lowest)
	}
	for _, m := range checked {
		if !strings.Contains(read(t, "docs/versions.md"), " "+m[2]) {
			t.Errorf("docs/versions.md does not name the version of Go that .ci/run has, %s", m[2])
		}
	}
}

// TestReadmeOfExamples: it has a line for each of them.
func TestReadmeOfExamples(t *testing.T) {
	programs, err := filepath.Glob("examples/*/main.go")
	if err != nil || len(programs) < 5 {
		t.Fatalf("the examples: %v, %v", programs, err)
	}
	for _, p := range programs {
		dir := path.Base(path.Dir(p))
		if !strings.Contains(read(t, "examples/README.md"), "\n| ["+dir+"]("+dir+"/main.go) | ") {
			t.Errorf("examples/README.md has no line for %s", dir)
		}
	}
}
