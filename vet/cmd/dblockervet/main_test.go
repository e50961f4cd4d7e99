package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// root is the directory of dblocker.
const root = "../../.."

// build makes the command.
func build(t *testing.T) string {
	t.Helper()
	tool := filepath.Join(t.TempDir(), "dblockervet")
	run(t, ".", "go", "build", "-o", tool, ".")
	return tool
}

func run(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// TestCommand: by go vet, with the real dblocker, each check finds what is marked with its name, and in the examples none
// finds anything.
func TestCommand(t *testing.T) {
	tool := build(t)
	run(t, root, "go", "vet", "-vettool="+tool, "./examples/...")

	source, err := os.ReadFile("testdata/wrong.go")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "vet", "-mod=mod", "-vettool="+tool, ".")
	cmd.Dir = program(t, source)
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatalf("go vet has passed:\n%s", out)
	}
	want := make(map[string]string)
	for i, line := range strings.Split(string(source), "\n") {
		if m := regexp.MustCompile(`// ([a-z]+)$`).FindStringSubmatch(line); m != nil {
			want[fmt.Sprint(":", i+1)] = m[1]
		}
	}
	found := make(map[string]bool)
	for _, m := range regexp.MustCompile(`main\.go(:\d+):\d+: (.*)`).FindAllStringSubmatch(string(out), -1) {
		if want[m[1]] == "" {
			t.Errorf("line %s: %s", m[1], m[2])
		}
		found[m[1]] = true
	}
	for line, check := range want {
		if !found[line] {
			t.Errorf("line %s: the check %s has found nothing", line, check)
		}
	}
	if len(want) != 9 {
		t.Errorf("%d lines are marked, want one for each check", len(want))
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
}

// program makes a module of one file, with the dependencies of dblocker itself.
func program(t *testing.T, source []byte) (dir string) {
	t.Helper()
	dir = t.TempDir()
	abs, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	sum, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(mod), "module github.com/calmdocs/dblocker", "module example.com/wrong", 1) +
		"\nrequire github.com/calmdocs/dblocker v0.0.0\n\nreplace github.com/calmdocs/dblocker => " + abs + "\n"
	for name, content := range map[string]string{"go.mod": text, "go.sum": string(sum), "main.go": string(source)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
