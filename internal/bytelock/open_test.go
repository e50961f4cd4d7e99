//go:build linux || darwin

package bytelock

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestNamesOfOneDatabaseMeet: symbolic links, and hard links of one directory.
func TestNamesOfOneDatabaseMeet(t *testing.T) {
	for name, link := range map[string]func(database, name string) error{"symbolic": os.Symlink, "hard": os.Link} {
		for _, late := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				database := newDatabase(t)
				before := filepath.Join(filepath.Dir(database), "a.db")
				after := filepath.Join(filepath.Dir(database), "z.db")
				var first *File
				if late {
					first = open(t, database)
				}
				if err := errors.Join(link(database, before), link(database, after)); err != nil {
					t.Fatal(err)
				}
				if !late {
					first = open(t, after)
				}
				for _, path := range []string{before, database, after} {
					f := open(t, path)
					h := lock(t, f, "ann", Exclusive)
					taken(t, first, "ann", Shared)
					h.Release()
				}
			})
		}
	}
}

// TestASymbolicLinkElsewhere: the lock file is beside the database, not beside the link.
func TestASymbolicLinkElsewhere(t *testing.T) {
	database := newDatabase(t)
	link := filepath.Join(t.TempDir(), "link.db")
	if err := os.Symlink(database, link); err != nil {
		t.Fatal(err)
	}
	if f, want := open(t, link), open(t, database); f.Path() != want.Path() || !os.SameFile(f.info, want.info) {
		t.Errorf("the lock files are %s and %s", f.Path(), want.Path())
	}
}

// TestWhatIsRefused at open, in words.
func TestWhatIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(t *testing.T, database string) error
		says    string
	}{
		"no database":             {func(_ *testing.T, d string) error { return os.Remove(d) }, "open the database first"},
		"a directory":             {func(_ *testing.T, d string) error { return os.Mkdir(d+suffix, 0o700) }, "is a directory"},
		"a database directory":    {func(_ *testing.T, d string) error { return errors.Join(os.Remove(d), os.Mkdir(d, 0o700)) }, "no ordinary file"},
		"a pipe":                  {func(_ *testing.T, d string) error { return syscall.Mkfifo(d+suffix, 0o600) }, "no ordinary file"},
		"a link that was planted": {func(t *testing.T, d string) error { return os.Symlink(newDatabase(t), d+suffix) }, "need a lock file"},
		"a hard link elsewhere":   {func(t *testing.T, d string) error { return os.Link(d, filepath.Join(t.TempDir(), "x")) }, "use symbolic links"},
		"two lock files":          {twoLockFiles, "delete both"},
	} {
		t.Run(name, func(t *testing.T) {
			database := newDatabase(t)
			if err := c.prepare(t, database); err != nil {
				t.Fatal(err)
			}
			f, err := Open(database)
			if err == nil {
				f.Close()
				t.Fatal("it was opened")
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("the error is %q, which does not say %q", err, c.says)
			}
		})
	}
}

func twoLockFiles(_ *testing.T, database string) error {
	other := filepath.Join(filepath.Dir(database), "b.db")
	return errors.Join(os.Link(database, other), os.WriteFile(database+suffix, nil, 0o600), os.WriteFile(other+suffix, nil, 0o600))
}

// TestRights: whoever may write to the database may lock, and nobody else.
func TestRights(t *testing.T) {
	for _, perm := range []fs.FileMode{0o600, 0o660, 0o666, 0o755} {
		database := newDatabase(t)
		if err := os.Chmod(database, perm); err != nil {
			t.Fatal(err)
		}
		f := open(t, database)
		info, err := os.Stat(f.Path())
		if err != nil || info.Mode() != perm&^0o111 {
			t.Errorf("the lock file of a database with the rights %v has %v (%v)", perm, info.Mode(), err)
		}
	}
}

// TestAFileThatMayNotBeWritten is refused: by somebody who is not root, whom nothing is refused.
func TestAFileThatMayNotBeWritten(t *testing.T) {
	database := newDatabase(t)
	for dir := filepath.Dir(database); len(dir) > len(os.TempDir()); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chmod(database, 0o444), os.WriteFile(database+suffix, nil, 0o444)); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		if _, err := Open(database); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("the error is %v", err)
		}
		return
	}
	program := filepath.Join(filepath.Dir(database), "program") // go test's may be where nobody else can look
	text, err := os.ReadFile(os.Args[0])
	if err == nil {
		err = os.WriteFile(program, text, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), "BYTELOCK_TEST_DATABASE="+database)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || !strings.Contains(string(out), "permission denied") {
		t.Errorf("another user's process says %q (%v)", out, err)
	}
}

// A fakeFS has locks that do not do what they should.
type fakeFS struct {
	answers []bool
	err     error
}

func (f *fakeFS) try(Mode, span) (bool, error) {
	if f.err != nil {
		return false, f.err
	}
	answer := f.answers[0]
	f.answers = f.answers[1:]
	return answer, nil
}

func (f *fakeFS) unlock(span) error { return f.err }

// TestFileSystemsWithoutLocks are found by the probe.
func TestFileSystemsWithoutLocks(t *testing.T) {
	for name, f := range map[string]*fakeFS{
		"an error":       {err: os.NewSyscallError("fcntl", syscall.ENOLCK)},
		"all is granted": {answers: []bool{true, true}},
		"nothing is":     {answers: []bool{false}},
		"for ever":       {answers: []bool{true, false, false}},
	} {
		if err := prove("app.db-locks", f, f); err == nil || !strings.Contains(err.Error(), "keep the database on a local disk") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := prove("app.db-locks", &fakeFS{answers: []bool{true}}, &fakeFS{answers: []bool{false, true}}); err != nil {
		t.Errorf("of locks that work: %v", err)
	}
}
