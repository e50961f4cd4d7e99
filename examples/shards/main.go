// Shards spreads users over two databases, by a function that returns the data source
// name for each. Users of one shard share its connections.
//
//	go run ./examples/shards
package main

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"log"
	"os"
	"path/filepath"

	"github.com/jmoiron/sqlx"

	"github.com/calmdocs/dblocker"
)

func main() {
	dir, err := os.MkdirTemp("", "shards")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := run(context.Background(), dir, os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// run counts the visits of some users, each on the user's shard.
func run(ctx context.Context, dir string, out io.Writer) error {
	shardOf := func(_ context.Context, user string) (dataSourceName string, err error) {
		hash := fnv.New32()
		hash.Write([]byte(user))
		return filepath.Join(dir, fmt.Sprintf("shard%d.db", hash.Sum32()%2)), nil
	}
	store, err := dblocker.New(ctx, "sqlite3", "", false, dblocker.DSNFunc(shardOf))
	if err != nil {
		return err
	}
	defer store.Close()
	for _, user := range []string{"ann", "bob", "ann", "cid", "ann"} {
		if err := store.RWDo(user, ctx, "count visit", visit(user)); err != nil {
			return err
		}
	}
	for _, user := range []string{"ann", "bob", "cid"} {
		dsn, _ := shardOf(ctx, user)
		var visits int
		if err := store.ReadDo(user, ctx, "show visits", func(db *sqlx.DB) error {
			return db.Get(&visits, "SELECT n FROM visits WHERE user = ?", user)
		}); err != nil {
			return err
		}
		fmt.Fprintf(out, "%s: %d visits, in %s\n", user, visits, filepath.Base(dsn))
	}
	return nil
}

// visit adds one to the visits of the user. It needs no transaction: nobody else works
// for the user meanwhile.
func visit(user string) func(db *sqlx.DB) error {
	return func(db *sqlx.DB) error {
		if _, err := db.Exec("CREATE TABLE IF NOT EXISTS visits (user TEXT PRIMARY KEY, n INTEGER)"); err != nil {
			return err
		}
		if _, err := db.Exec("INSERT OR IGNORE INTO visits VALUES (?, 0)", user); err != nil {
			return err
		}
		var n int
		if err := db.Get(&n, "SELECT n FROM visits WHERE user = ?", user); err != nil {
			return err
		}
		_, err := db.Exec("UPDATE visits SET n = ? WHERE user = ?", n+1, user)
		return err
	}
}
