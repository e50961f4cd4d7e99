//go:build unix

package debs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fakeApt puts an apt-get first on the PATH, which knows two packages and notes each of its downloads in the file that it
// returns. While the file "down" exists beside it, downloads end in the middle of a file.
func fakeApt(t *testing.T) (calls, down string) {
	t.Helper()
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		t.Skip("dpkg-deb is not here")
	}
	dir := t.TempDir()
	for name, file := range map[string]string{"srv-core": "usr/bin/srv", "libsrv1": "usr/lib/x86_64-linux-gnu/libsrv.so.1", "libc6": "usr/lib/libc.so.6"} {
		tree := filepath.Join(dir, "tree", name)
		write(t, filepath.Join(tree, "DEBIAN/control"), "Package: "+name+"\nVersion: 1:1.0\nArchitecture: all\nMaintainer: m <m@example.com>\nDescription: d\n", 0o644)
		write(t, filepath.Join(tree, file), "#!/bin/sh\n", 0o755)
		build := exec.Command("dpkg-deb", "--root-owner-group", "-b", tree, filepath.Join(dir, name+"_1%3a1.0_all.deb"))
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	calls, down = filepath.Join(dir, "calls"), filepath.Join(dir, "down")
	write(t, filepath.Join(dir, "bin/apt-get"), fmt.Sprintf(`#!/bin/sh
case "$*" in
*" update"*) ;;
*" install "*) for p in srv-core libsrv1 libc6; do echo "'http://x/$p' ${p}_1%%3a1.0_all.deb 1000 MD5Sum:0"; done ;;
*" download "*)
	echo download >>%[1]s/calls
	test "$(echo "$*" | sed 's/.* download //')" = "srv-core=1:1.0 libsrv1=1:1.0" || { echo "asked for $*" >&2; exit 1; }
	if [ -e %[1]s/down ]; then head -c 100 %[1]s/srv-core_1%%3a1.0_all.deb >srv-core_1%%3a1.0_all.deb; echo "connection lost" >&2; exit 100; fi
	cp %[1]s/srv-core_*.deb %[1]s/libsrv1_*.deb . ;;
esac
`, dir), 0o755)
	t.Setenv("PATH", filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
	return calls, down
}

func write(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

var srv = Program{Dir: "srv", Package: "srv", Wanted: regexp.MustCompile(`^srv-core$`)}

func downloads(t *testing.T, calls string) int {
	t.Helper()
	content, err := os.ReadFile(calls)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Count(string(content), "\n")
}

func quiet(string, ...any) {}

func TestProgramIsBroughtOnce(t *testing.T) {
	calls, _ := fakeApt(t)
	dir := filepath.Join(t.TempDir(), "new", "cache")
	for range 2 {
		if err := Bring(t.Context(), dir, quiet, srv); err != nil {
			t.Fatal(err)
		}
	}
	root := filepath.Join(dir, "srv")
	if _, err := os.Stat(filepath.Join(root, "usr/bin/srv")); err != nil {
		t.Error(err)
	}
	if got := Libraries(root); !strings.HasPrefix(got, root+"/usr/lib/x86_64-linux-gnu") {
		t.Errorf("libraries in %q", got)
	}
	if _, err := os.Stat(filepath.Join(root, "usr/lib/libc.so.6")); err == nil {
		t.Error("the C library was unpacked: the system's loader does not fit it")
	}
	if n := downloads(t, calls); n != 1 {
		t.Errorf("%d downloads for two calls", n)
	}
}

func TestBrokenProgramIsBroughtAgain(t *testing.T) {
	calls, _ := fakeApt(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "srv/usr/bin/srv")
	for i, damage := range []func() error{
		func() error { return nil },
		func() error { return os.Truncate(file, 3) },
		func() error { return os.Remove(file) },
		func() error { return os.Remove(filepath.Join(dir, "srv", manifest)) },
	} {
		if err := damage(); err != nil && i > 0 {
			t.Fatal(err)
		}
		if err := Bring(t.Context(), dir, quiet, srv); err != nil {
			t.Fatal(err)
		}
		if n := downloads(t, calls); n != i+1 || !Whole(filepath.Join(dir, "srv")) {
			t.Errorf("after damage %d: %d downloads, whole %v", i, n, Whole(filepath.Join(dir, "srv")))
		}
	}
}

func TestHalfDownloadLeavesNothing(t *testing.T) {
	_, down := fakeApt(t)
	write(t, down, "", 0o644)
	dir := t.TempDir()
	write(t, filepath.Join(dir, unfinished+"of-a-killed-run/x"), "", 0o644)
	err := Bring(t.Context(), dir, quiet, srv)
	if err == nil || !strings.Contains(err.Error(), "connection lost") {
		t.Errorf("error %v; want what apt-get has said", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 { // the lock's file
		t.Errorf("left: %q", left)
	}
	if err := os.Remove(down); err != nil {
		t.Fatal(err)
	}
	if err := Bring(t.Context(), dir, quiet, srv); err != nil {
		t.Error(err)
	}
}

func TestBringAtTheSameTime(t *testing.T) {
	calls, _ := fakeApt(t)
	dir := t.TempDir()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := Bring(t.Context(), dir, quiet, srv); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := downloads(t, calls); n != 1 {
		t.Errorf("%d downloads for eight calls at the same time", n)
	}
}

func TestWaitForAnotherRunEndsWithTheContext(t *testing.T) {
	dir := t.TempDir()
	unlock, err := lock(t.Context(), filepath.Join(dir, "lock"), func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var told atomic.Int32
	err = Bring(ctx, dir, func(string, ...any) {
		told.Add(1)
		cancel()
	}, srv)
	if !errors.Is(err, context.Canceled) || told.Load() != 1 {
		t.Errorf("error %v, told %d times that it waits", err, told.Load())
	}
}

func TestWithoutApt(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if err := Bring(t.Context(), t.TempDir(), quiet, srv); !errors.Is(err, ErrNoApt) {
		t.Errorf("error %v", err)
	}
}

func TestChosenPackages(t *testing.T) {
	all := []deb{{name: "postgresql-16"}, {name: "postgresql-common"}}
	for _, library := range []string{"libssl3t64", "libpam0g", "libldap-2.5-0", "zlib1g", "libxslt1.1", "libc-ares2", "libevent-2.1-7", "liblz4-1", "libbz2-1.0"} {
		all = append(all, deb{name: library, spec: library})
	}
	want := len(all) - 1
	for _, other := range []string{"libc6", "libllvm14", "libc-bin", "libdbi-perl", "libperl5.36", "perl", "zip"} {
		all = append(all, deb{name: other, spec: other})
	}
	if names, _ := choose(all, regexp.MustCompile(`^postgresql-\d+$`)); len(names) != want {
		t.Errorf("chosen %q", names)
	}
}
