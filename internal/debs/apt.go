package debs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// An apt is apt-get with a state of its own: the lists of packages are in a directory of ours, and it believes that nothing is
// installed. Sources and keys are the machine's.
type apt struct {
	options []string
	lists   string // the directory of the lists
}

func newApt(work string) (*apt, error) {
	for _, dir := range []string{"apt/state/lists/partial", "apt/cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(work, dir), 0o755); err != nil {
			return nil, err
		}
	}
	status := filepath.Join(work, "apt/status")
	if err := os.WriteFile(status, nil, 0o644); err != nil {
		return nil, err
	}
	// Without a sandbox: its user could not write to our directories.
	return &apt{lists: filepath.Join(work, "apt/state/lists"), options: []string{"-qq", "-y",
		"-o", "Dir::State=" + filepath.Join(work, "apt/state"), "-o", "Dir::State::status=" + status,
		"-o", "Dir::Cache=" + filepath.Join(work, "apt/cache"), "-o", "Debug::NoLocking=true",
		"-o", "APT::Sandbox::User=", "-o", "Acquire::Languages=none", "-o", "Acquire::Retries=2", "-o", "Acquire::http::Timeout=30",
		"-o", "APT::Get::AllowUnauthenticated=false",
	}}, nil
}

func (a *apt) command(args ...string) []string {
	return append(append([]string{"apt-get"}, a.options...), args...)
}

// update reads the lists. One source of several that does not answer is no failure: what is missing then, closure finds.
func (a *apt) update(ctx context.Context) error {
	err := run(ctx, "", nil, a.command("update")...)
	if ctx.Err() == nil && err != nil && a.hasLists() {
		return nil
	}
	return err
}

func (a *apt) hasLists() bool {
	lists, _ := filepath.Glob(filepath.Join(a.lists, "*_Packages*"))
	return len(lists) > 0
}

// A deb is one package that can be downloaded.
type deb struct {
	name string
	spec string // name=version, as apt-get takes it
	size int64
}

// uri is one line of apt-get's --print-uris: 'http://...' name_version_architecture.deb size sum.
var uri = regexp.MustCompile(`^'[^']*' (([^ _]+)_([^ _]+)_[^ _]+\.deb) (\d+)`)

// closure returns the package and all that it depends on.
func (a *apt) closure(ctx context.Context, name string) ([]deb, error) {
	var out bytes.Buffer
	if err := run(ctx, "", &out, a.command("install", "--print-uris", "--no-install-recommends", name)...); err != nil {
		return nil, err
	}
	var all []deb
	for line := range strings.Lines(out.String()) {
		m := uri.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		size, err := strconv.ParseInt(m[4], 10, 64)
		if err != nil {
			return nil, err
		}
		version := strings.NewReplacer("%3a", ":", "%7e", "~").Replace(m[3])
		all = append(all, deb{name: m[2], spec: m[2] + "=" + version, size: size})
	}
	if len(all) == 0 {
		return nil, errors.New("apt-get names no file to download")
	}
	return all, nil
}

// library matches the packages of shared libraries that a server links. The C library is that of the system, which the
// system's loader belongs to; LLVM, the largest of all, is for compiling queries only and loaded when it is there.
var (
	library  = regexp.MustCompile(`^(lib.*|z.*)\d(g|t64)?$`)
	unneeded = regexp.MustCompile(`^(libc6|libllvm|libz3|libperl|libgcc|libstdc)`)
)

// choose returns what is to be unpacked, and its size.
func choose(all []deb, wanted *regexp.Regexp) (names []string, size int64) {
	found := false
	for _, d := range all {
		isWanted := wanted.MatchString(d.name)
		found = found || isWanted
		if isWanted || library.MatchString(d.name) && !unneeded.MatchString(d.name) {
			names, size = append(names, d.spec), size+d.size
		}
	}
	if !found {
		return nil, 0
	}
	return names, size
}

// download returns the files of the packages, which apt-get has compared with their sums.
func (a *apt) download(ctx context.Context, dir string, names []string) ([]string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := run(ctx, dir, nil, a.command(append([]string{"download"}, names...)...)...); err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err == nil && len(files) != len(names) {
		err = fmt.Errorf("%d files of %d packages were downloaded", len(files), len(names))
	}
	return files, err
}

// run runs a program in dir. Its error has what the program said last.
func run(ctx context.Context, dir string, stdout *bytes.Buffer, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	var said bytes.Buffer
	cmd.Stderr = &said
	if stdout != nil {
		cmd.Stdout = stdout
	} else {
		cmd.Stdout = &said
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", argv[0], err, lastLines(said.String(), 3))
	}
	return nil
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "; ")
}
