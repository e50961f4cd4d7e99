// Quickstart shows what dblocker is for. Several users index a directory tree
// into a table, and at the same time look things up in it and rename files. It
// does so twice, for the same time and with the same code: first on the bare
// driver, then through dblocker. Then it prints what came of it, side by side.
//
//	go run ./examples/quickstart
//	go run ./examples/quickstart -dsn 'postgres://user:password@127.0.0.1:5432/app?sslmode=disable'
//	go run ./examples/quickstart -dsn 'mysql:user:password@tcp(127.0.0.1:3306)/app'
//
// Between the two halves only the arguments of sql.Open differ. The work itself,
// in workload.go, does not know which half it is in:
//
//	sql.Open("postgres", dsn)             // bare
//	sql.Open("dblocker", "postgres:"+dsn) // through dblocker
//
// What to look for is "lost updates". A rename reads a row, computes, and writes
// the row back, in a transaction. At the default isolation of PostgreSQL and
// MariaDB, two such transactions of one user may both read the old value; both
// commit, and one update is gone without an error. SQLite does not lose it but
// refuses one of the two ("database is locked"). Through dblocker the second
// transaction of a user begins when the first has ended. The transactions of
// different users do not wait for each other, except on SQLite, which has one
// writer at a time: there they queue for the file, and none is refused.
//
// The tables have names of their own and are dropped at the end, also after
// Ctrl-C. The exit code is 1 if dblocker lost an update or something went wrong.
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
	"syscall"
	"time"
)

// config is what the flags say.
type config struct {
	dsn   string        // as dblocker reads it; "" is an SQLite file in a temporary directory
	dir   string        // to index; "" is the Go installation's src
	users int           // at work at the same time
	total time.Duration // for both halves together
}

func main() {
	var cfg config
	flag.StringVar(&cfg.dsn, "dsn", "", "database, as driver[?options]:inner-dsn or a URL (default an SQLite file in a temporary directory)")
	flag.StringVar(&cfg.dir, "dir", "", "directory tree to index (default the Go installation's src)")
	flag.IntVar(&cfg.users, "users", 8, "users at work at the same time")
	seconds := flag.Float64("seconds", 20, "seconds of work, both halves together")
	flag.Parse()
	cfg.total = time.Duration(*seconds * float64(time.Second))
	if flag.NArg() > 0 || cfg.users < 1 || cfg.total <= 0 {
		fmt.Fprintln(os.Stderr, "quickstart: it takes flags only, and -users and -seconds must be positive, for example -users 8 -seconds 20")
		os.Exit(2)
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	if err := run(ctx, cfg, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

// errLost is what run returns when dblocker has not kept its promise.
var errLost = errors.New("updates were lost through dblocker")

// run works through both halves and prints the table. When ctx is done it stops
// early and prints what it has.
func run(ctx context.Context, cfg config, out io.Writer) error {
	db, cleanUp, err := openTarget(cfg.dsn)
	if err != nil {
		return err
	}
	defer cleanUp()
	files, err := readTree(ctx, cfg.dir, out)
	if err != nil {
		return err
	}

	fmt.Fprintf(out, "bare:     sql.Open(%q, dsn)\n", db.driver)
	fmt.Fprintf(out, "dblocker: sql.Open(\"dblocker\", %q + dsn)\n\n", db.driver+db.options+":")
	var results []*result
	for _, half := range []string{"bare", "dblocker"} {
		if ctx.Err() != nil {
			break
		}
		r, err := runHalf(ctx, half, db, files, cfg, out)
		if errors.Is(err, context.Canceled) { // before it had begun to work
			break
		}
		if err != nil {
			return fmt.Errorf("%s: %w", half, err)
		}
		results = append(results, r)
	}
	if len(results) == 0 {
		return errors.New("stopped before there was anything to show")
	}
	printTable(out, results)
	for _, r := range results {
		if r.half == "dblocker" && r.lost > 0 {
			return errLost
		}
	}
	return nil
}

// runHalf does the work on one of the two handles.
func runHalf(ctx context.Context, half string, t target, files []file, cfg config, out io.Writer) (res *result, err error) {
	// The inner driver is wrapped, alike in both halves, in one that counts its
	// connections.
	counting, connections, err := countConnections(t)
	if err != nil {
		return nil, err
	}
	var db *sql.DB
	if half == "bare" {
		db, err = sql.Open(counting, t.dsnFor(half))
	} else {
		db, err = sql.Open("dblocker", counting+t.options+":"+t.dsnFor(half))
	}
	if err != nil {
		return nil, err
	}
	defer db.Close()

	w, err := newWorkload(ctx, db, t.driver, files, cfg.users)
	if err != nil {
		return nil, err
	}
	defer func() {
		if e := w.dropTables(); e != nil {
			err = errors.Join(err, fmt.Errorf("dropping the tables %s_files and %s_users: %w", w.prefix, w.prefix, e))
		}
	}()
	w.work(ctx, cfg.total/2, func(elapsed time.Duration) {
		fmt.Fprintf(out, "%-8s  %3.0f s  %9s operations  %7s errors\n", half, elapsed.Seconds(),
			thousands(w.reads.done()+w.writes.done()), thousands(w.reads.failed()+w.writes.failed()))
	})
	lost, err := w.lostUpdates()
	if err != nil {
		return nil, fmt.Errorf("counting lost updates: %w", err)
	}
	return &result{half: half, reads: &w.reads, writes: &w.writes, lost: lost, connections: connections.peak()}, nil
}

// openTarget reads the DSN, and makes a temporary directory if there is none.
func openTarget(dsn string) (target, func(), error) {
	if dsn != "" {
		t, err := parseTarget(dsn)
		return t, func() {}, err
	}
	dir, err := os.MkdirTemp("", "dblocker-quickstart-")
	if err != nil {
		return target{}, nil, err
	}
	// A file for each half: the second should not find the first one's free pages.
	return target{driver: "sqlite3", dsn: filepath.Join(dir, "quickstart-"), perHalf: true}, func() { os.RemoveAll(dir) }, nil
}
