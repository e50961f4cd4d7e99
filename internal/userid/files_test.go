package userid

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestUsersAreFoundByTheirFiles: in whatever place of the path the name stands, and nothing else is taken for a user.
func TestUsersAreFoundByTheirFiles(t *testing.T) {
	for _, pattern := range []string{"{user}", "{user}.db", "app-{user}.db", "{user}/app.db", "{user}/{user}/db", "of/{user}-{user}.sqlite3", "a{user}b/c/{user}"} {
		dir := t.TempDir()
		f := Files{Pattern: filepath.Join(dir, pattern), Mark: "{user}"}
		if users, err := f.Users(); len(users) > 0 || err != nil {
			t.Errorf("%s: at first there are %v, %v", pattern, users, err)
		}
		want := []string{"27", "../x", "Ann", "a", "aa", "é"}
		for _, user := range want {
			write(t, f.Of(user))
			for _, suffix := range []string{"-wal", "-shm", "-journal", "-locks", ".part-12", "~"} {
				write(t, f.Of(user)+suffix)
			}
		}
		for _, name := range []string{"27", "u", "U27", "uA", "u27 ", "readme", "u_041"} { // nobody's
			path := filepath.Join(dir, pattern)
			for _, more := range []string{name, "x" + name} {
				write(t, Files{Pattern: path + ".other", Mark: "{user}"}.Of(more))
			}
		}
		if err := os.MkdirAll(f.Of("directory"), 0o755); err != nil {
			t.Fatal(err)
		}
		users, err := f.Users()
		slices.Sort(users)
		slices.Sort(want)
		if err != nil || !slices.Equal(users, want) {
			t.Errorf("%s: found %q, %v, want %q", pattern, users, err, want)
		}
		if err := os.Remove(f.Of("27")); err != nil {
			t.Fatal(err)
		}
		if there, err := f.IsThere("27"); there || err != nil {
			t.Errorf("%s: a file that is gone: %v, %v", pattern, there, err)
		}
	}
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestDirsOfAUser are those with the name of the user, the innermost first.
func TestDirsOfAUser(t *testing.T) {
	for pattern, want := range map[string][]string{
		"/data/{user}.db":          nil,
		"/data/{user}/app.db":      {"/data/u1"},
		"/data/{user}/x/{user}.db": {"/data/u1/x", "/data/u1"},
	} {
		f := Files{Pattern: filepath.FromSlash(pattern), Mark: "{user}"}
		for i, dir := range want {
			want[i] = filepath.FromSlash(dir)
		}
		if dirs := f.Dirs("1"); !slices.Equal(dirs, want) {
			t.Errorf("%s: %v, want %v", pattern, dirs, want)
		}
	}
}
