package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/calmdocs/dblocker"
)

// tenants are the IDs of the users of the suite "tenants", the first of them for none.
var tenants = func() (ids [knownTenants + 1]string) {
	for i := range ids {
		ids[i] = fmt.Sprintf("%08d", i)
	}
	return ids
}()

// tenantFiles is a directory with a file for each user, and one for all. Files that were written by one contender are
// there for the next.
type tenantFiles string

func (f tenantFiles) one() string { return filepath.Join(string(f), "all.db") }

func (f tenantFiles) of(user string) string {
	name, err := dblocker.DatabaseName(user)
	if err != nil {
		panic(err) // of users that are numbers
	}
	return filepath.Join(string(f), name+".db")
}

// createTenants makes the files of users in the directory of a path: copies of one, each with its own ID.
func createTenants(ctx context.Context, path string, users []string) (tenantFiles, error) {
	if err := createCounters(ctx, path, tenants[:1]); err != nil {
		return "", err
	}
	template, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	if n := bytes.Count(template, []byte(tenants[0])); n != 1 {
		return "", fmt.Errorf("the ID is in the file %d times, want once", n)
	}
	f := tenantFiles(filepath.Dir(path))
	for _, user := range users {
		if err := os.WriteFile(f.of(user), bytes.Replace(template, []byte(tenants[0]), []byte(user), 1), 0o644); err != nil {
			return "", err
		}
	}
	return f, createCounters(ctx, f.one(), users)
}

// createCounters makes a file in WAL mode with a counter for each user.
func createCounters(ctx context.Context, path string, users []string) (err error) {
	db, err := sql.Open("sqlite3", "file:"+path+tuned)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, "CREATE TABLE counters (name TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID"); err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, user := range users {
		if _, err := tx.ExecContext(ctx, "INSERT INTO counters VALUES (?, 0)", user); err != nil {
			return err
		}
	}
	return tx.Commit()
}
