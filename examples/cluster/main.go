// Cluster runs a program in three processes on one database. Each of them changes the same users' counters: it reads a
// counter, computes, and writes it back. In the middle one process is killed. At the end no update is lost, since with
// lock_scope=database users' locks hold among the processes.
//
//	go run ./examples/cluster
//	go run ./examples/cluster -dsn 'postgres://user:password@127.0.0.1:5432/app?sslmode=disable'
//	go run ./examples/cluster -dsn 'mysql:user:password@tcp(127.0.0.1:3306)/app'
//	go run ./examples/cluster -lock_scope process # locks end with the process: updates are lost
//
// The program proper is work, in worker.go. The rest starts, watches and kills it, and counts. The table cluster_counters is
// made anew and dropped at the end. The exit code is 1 if updates were lost with lock_scope=database or something went wrong.
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	_ "github.com/calmdocs/dblocker"
)

// config is what the flags say.
type config struct {
	dsn   string        // as dblocker reads it; "" is an SQLite file in a temporary directory
	scope string        // lock_scope
	total time.Duration // of the work
}

func main() {
	if name := os.Getenv(workerName); name != "" {
		if err := work(context.Background(), os.Getenv(workerDSN), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintf(os.Stderr, "cluster: process %s: %v\n", name, err)
			os.Exit(1)
		}
		return
	}
	var cfg config
	flag.StringVar(&cfg.dsn, "dsn", "", "database, as driver[?options]:inner-dsn or a URL (default an SQLite file in a temporary directory)")
	flag.StringVar(&cfg.scope, "lock_scope", "database", "how far users' locks reach: database or process")
	seconds := flag.Float64("seconds", 6, "seconds of work")
	flag.Parse()
	cfg.total = time.Duration(*seconds * float64(time.Second))
	if flag.NArg() > 0 || cfg.total <= 0 {
		fmt.Fprintln(os.Stderr, "cluster: it takes flags only, and -seconds must be positive, for example -seconds 6")
		os.Exit(2)
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	if err := run(ctx, cfg, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

// errLost is what run returns when dblocker has not kept its promise.
var errLost = errors.New("updates were lost with lock_scope=database")

// run has processes at work, kills one, and prints what came of it.
func run(ctx context.Context, cfg config, out io.Writer) (err error) {
	dsn := cfg.dsn
	if dsn == "" {
		dir, err := os.MkdirTemp("", "dblocker-cluster-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		dsn = "sqlite3:" + filepath.Join(dir, "cluster.db")
	}
	dsn = withOption(dsn, "lock_scope="+cfg.scope)
	db, err := sql.Open("dblocker", dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := createTable(ctx, db); err != nil {
		return err
	}
	defer func() {
		_, e := db.Exec("DROP TABLE cluster_counters")
		err = errors.Join(err, e)
	}()

	fmt.Fprintf(out, "three processes, lock_scope=%s\n\n", cfg.scope)
	c, err := startCluster(ctx, dsn, out)
	if err != nil {
		return err
	}
	c.watch(ctx, db, cfg.total)
	if err := c.stop(); err != nil {
		return err
	}
	lost, err := c.report(db)
	if err == nil && lost > 0 && cfg.scope == "database" {
		return errLost
	}
	return err
}

// withOption puts an option of dblocker into a DSN.
func withOption(dsn, option string) string {
	head, inner, _ := strings.Cut(dsn, ":")
	switch {
	case strings.HasPrefix(inner, "//"): // a URL that stands for driver and DSN together
		return head + "?" + option + ":" + dsn
	case strings.Contains(head, "?"):
		return head + "&" + option + ":" + inner
	}
	return head + "?" + option + ":" + inner
}

func createTable(ctx context.Context, db *sql.DB) error {
	for _, statement := range []string{
		"DROP TABLE IF EXISTS cluster_counters",
		"CREATE TABLE cluster_counters (name VARCHAR(20) PRIMARY KEY, n INTEGER)",
		"INSERT INTO cluster_counters VALUES ('ann', 0), ('bob', 0), ('eve', 0)",
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}
