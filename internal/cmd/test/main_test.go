//go:build unix

package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/calmdocs/dblocker/internal/testdb"
)

func TestModulesAreTheRootAndThoseBelow(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{".", "compat", "a/b", "a/testdata/x", ".hidden", "_skipped", "empty"} {
		path := filepath.Join(root, dir)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if dir == "empty" {
			continue
		}
		if err := os.WriteFile(filepath.Join(path, "go.mod"), []byte("module x\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := modulesBelow(root)
	want := []string{root, filepath.Join(root, "a/b"), filepath.Join(root, "compat")}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("modules %q, error %v, want %q", got, err, want)
	}
}

func TestModuleWithoutPackagesIsLeftOut(t *testing.T) {
	dir := newModule(t, "")
	if !hasPackages(t.Context(), dir) {
		t.Error("a module with a test has no packages")
	}
	if err := os.Remove(filepath.Join(dir, "x_test.go")); err != nil {
		t.Fatal(err)
	}
	if hasPackages(t.Context(), dir) {
		t.Error("a module without Go files has packages")
	}
}

func TestStatusIsThatOfGoTest(t *testing.T) {
	testdb.NoLeaks(t)
	silence(t)
	dir := newModule(t, `func Test(t *testing.T) { if os.Getenv("FAIL") != "" { t.Fatal("told to") } }`)
	if _, err := goTest(t.Context(), dir, nil, nil, func() {}); err != nil {
		t.Errorf("tests that pass: %v", err)
	}
	_, err := goTest(t.Context(), dir, []string{"-count=1"}, []string{"FAIL=1"}, func() {})
	if got := report(t.Context(), err); got != 1 {
		t.Errorf("tests that fail: status %d, want 1", got)
	}
}

func TestInterruptEndsTestsInTime(t *testing.T) {
	testdb.NoLeaks(t)
	silence(t)
	started := filepath.Join(t.TempDir(), "started")
	dir := newModule(t, `func Test(t *testing.T) {
		os.WriteFile(os.Getenv("STARTED"), nil, 0o644)
		time.Sleep(time.Hour)
	}`)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for !exists(started) && ctx.Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		cancel()
	}()
	if _, err := goTest(ctx, dir, []string{"-timeout=1m"}, []string{"STARTED=" + started}, func() {}); err == nil {
		t.Error("interrupted tests passed")
	}
	if !exists(started) {
		t.Error("the tests did not start")
	}
}

func TestGroupIsKilled(t *testing.T) {
	cmd := exec.Command("sleep", "3600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	g, err := newGroup()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	g.set(cmd.Process.Pid)
	g.kill()
	if err := cmd.Wait(); err == nil {
		t.Error("the process ended by itself")
	}
}

func TestInstructionsNameWhatIsMissing(t *testing.T) {
	err := instructions([]*testdb.Engine{testdb.MariaDB}, "because")
	for _, want := range []string{"because", "apt-get install mariadb-server\n", "export DBLOCKER_TEST_MYSQL='"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "POSTGRES") {
		t.Errorf("PostgreSQL is there, but named in:\n%v", err)
	}
}

// silence keeps what the inner tests print out of our output, where their failures would pass for ours.
func silence(t *testing.T) {
	t.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr := os.Stdout, os.Stderr
	os.Stdout, os.Stderr = null, null
	t.Cleanup(func() {
		os.Stdout, os.Stderr = stdout, stderr
		null.Close()
	})
}

// newModule makes a module with one test.
func newModule(t *testing.T, test string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"go.mod":    "module example.com/m\n\ngo 1.25.0\n",
		"x_test.go": "package m\n\nimport (\n\t\"os\"\n\t\"testing\"\n\t\"time\"\n)\n\nvar _, _ = os.Getenv, time.Now\n\n" + test + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
