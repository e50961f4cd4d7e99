// Files keeps the files of users in a directory each and lists them in a table. A rename
// changes both, on disk and in the table, inside one exclusive section, so that no
// listing, which takes a shared one, ever sees the one without the other.
//
//	go run ./examples/files
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"sync"

	"github.com/jmoiron/sqlx"

	"github.com/calmdocs/dblocker"
)

func main() {
	dir, err := os.MkdirTemp("", "files")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := run(context.Background(), dir, 100); err != nil {
		log.Fatal(err)
	}
	fmt.Println("200 renames beside 200 listings: the table and the disk always agreed")
}

// run lets two users rename a file that many times, while others list it.
func run(ctx context.Context, dir string, times int) error {
	store, err := dblocker.New(ctx, "sqlite3", filepath.Join(dir, "files.db"), false)
	if err != nil {
		return err
	}
	defer store.Close()
	f := &files{store, dir}
	if _, err := store.DB().ExecContext(ctx, "CREATE TABLE files (owner TEXT, name TEXT)"); err != nil {
		return err
	}
	errs := make(chan error, 4)
	var wg sync.WaitGroup
	for _, user := range []string{"ann", "bob"} {
		if err := f.create(ctx, user, "file-0"); err != nil {
			return err
		}
		wg.Go(func() { errs <- f.renameOften(ctx, user, times) })
		wg.Go(func() { errs <- f.listOften(ctx, user, times) })
	}
	wg.Wait()
	for range cap(errs) {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

// files are the users' files, in dir, and the table of their names.
type files struct {
	store *dblocker.Store
	dir   string
}

func (f *files) path(user, name string) string { return filepath.Join(f.dir, user, name) }

// list returns the names of the user's files. It is an error if one is not on disk.
func (f *files) list(ctx context.Context, user string) (names []string, err error) {
	err = f.store.ReadDo(user, ctx, "list files", func(db *sqlx.DB) error {
		if err := db.Select(&names, "SELECT name FROM files WHERE owner = ?", user); err != nil {
			return err
		}
		for _, name := range names {
			if _, err := os.Stat(f.path(user, name)); err != nil {
				return fmt.Errorf("in the table, but not on disk: %w", err)
			}
		}
		return nil
	})
	return names, err
}

// rename renames a file on disk and in the table.
func (f *files) rename(ctx context.Context, user, from, to string) error {
	cancel, db, err := f.store.RWGetDB(user, ctx, "rename file")
	if err != nil {
		return err
	}
	defer cancel()
	if err := os.Rename(f.path(user, from), f.path(user, to)); err != nil {
		return err
	}
	_, err = db.Exec("UPDATE files SET name = ? WHERE owner = ? AND name = ?", to, user, from)
	return err
}

func (f *files) create(ctx context.Context, user, name string) error {
	return f.store.RWDo(user, ctx, "create file", func(db *sqlx.DB) error {
		if err := os.MkdirAll(filepath.Join(f.dir, user), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(f.path(user, name), []byte("hello\n"), 0o644); err != nil {
			return err
		}
		_, err := db.Exec("INSERT INTO files VALUES (?, ?)", user, name)
		return err
	})
}

func (f *files) renameOften(ctx context.Context, user string, times int) error {
	for i := range times {
		if err := f.rename(ctx, user, fmt.Sprintf("file-%d", i), fmt.Sprintf("file-%d", i+1)); err != nil {
			return err
		}
	}
	return nil
}

func (f *files) listOften(ctx context.Context, user string, times int) error {
	for range times {
		if names, err := f.list(ctx, user); err != nil || len(names) != 1 {
			return fmt.Errorf("%s has the files %v: %w", user, names, err)
		}
	}
	return nil
}
