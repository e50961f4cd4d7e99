package databases

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/calmdocs/dblocker/internal/sqlite"
)

const library = "github.com/mattn/go-sqlite3"

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestOneFileOpenedByManyNames at the same time, which its databases have not seen before.
func TestOneFileOpenedByManyNames(t *testing.T) {
	many := t.TempDir()
	for i := range 100 {
		d, err := Open(("sqlite:" + filepath.Join(many, fmt.Sprintf("%d.db", i))), library)
		must(t, err)
		defer d.Release()
	}
	for range 20 {
		dir := t.TempDir()
		names := make([]string, 8)
		for i := range names {
			names[i] = filepath.Join(dir, fmt.Sprintf("%d.db", i))
		}
		early, err := Open("sqlite:"+names[0], library) // before there is a file
		must(t, err)
		must(t, os.WriteFile(names[0], nil, 0o600))
		for _, name := range names[1:] {
			must(t, os.Link(names[0], name))
		}
		var wg sync.WaitGroup
		for _, name := range names {
			wg.Go(func() {
				s, err := Open("sqlite:"+name, library)
				if err != nil || s != early {
					t.Errorf("the file has another database by the name %s, error %v", filepath.Base(name), err)
				}
				s.Release()
			})
		}
		wg.Wait()
		early.Release()
	}
}

// TestSearchForFiles is the way where files have no IDs.
func TestSearchForFiles(t *testing.T) {
	dir := t.TempDir()
	l := list{byID: make(map[string]*Database), byFile: make(map[sqlite.FileID][]*Database)}
	for _, name := range []string{"a.db", "b.db", "c.db"} {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, nil, 0o600))
		s, isNew := l.open("sqlite:"+path, library)
		if !isNew {
			t.Fatalf("%s has a database already", name)
		}
		file := sqlite.Stat(s.ID)
		l.mu.Lock()
		if got := l.search("sqlite:"+path+"-link", file); got != s {
			t.Errorf("%s has not been found", name)
		}
		l.mu.Unlock()
		must(t, os.Rename(path, path+"-old"))
		l.mu.Lock()
		if got := l.search("sqlite:"+path+"-link", file); got != s {
			t.Errorf("%s, which was renamed, has not been found", name)
		}
		l.mu.Unlock()
	}
}
