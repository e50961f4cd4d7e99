// Quickstart shows what dblocker is for. Several users index a directory tree
// into a table, and at the same time look things up in it and rename files. The
// program does so three times, for the same time and with the same code: on the
// bare driver, on the bare driver with the best settings for this work, and
// through dblocker. Then it prints what came of it, side by side.
//
//	go run ./examples/quickstart
//	go run ./examples/quickstart -engine postgres
//	go run ./examples/quickstart -engine mariadb
//	go run ./examples/quickstart -dsn 'postgres://user:password@127.0.0.1:5432/app?sslmode=disable'
//
// With -engine it brings a throwaway server. Where none is installed it downloads
// Debian's package and unpacks it in the user's cache directory; nothing is
// installed.
//
// Between the columns only the way to open the database differs. The work itself,
// in workload.go, does not know which column it is in:
//
//	sql.Open("postgres", dsn)             // bare
//	sql.Open("dblocker", "postgres:"+dsn) // through dblocker
//
// The tuned column is the bare driver as in columns.go.
//
// What to look for is "lost updates". A rename reads a row, computes, and writes
// the row back, in a transaction. At the default isolation of PostgreSQL and
// MariaDB, two such transactions of one user may both read the old value; both
// commit, and one update is gone without an error. At a stricter isolation the
// server refuses one of the two, and the program would have to try again. SQLite
// refuses one, too ("database is locked"). Through dblocker the second
// transaction of a user begins when the first has ended. The transactions of
// different users do not wait for each other, except on SQLite, which has one
// writer at a time: there they queue for the file, and none is refused.
//
// The tables have names of their own and are dropped at the end, also after
// Ctrl-C. The exit code is 1 if dblocker lost an update or something went wrong.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// config is what the flags say.
type config struct {
	engine string        // of a throwaway database, if dsn is ""
	dsn    string        // as dblocker reads it
	dir    string        // to index; "" is the Go installation's src
	users  int           // at work at the same time
	total  time.Duration // for all columns together
}

func main() {
	var cfg config
	flag.StringVar(&cfg.engine, "engine", "sqlite", "engine of a throwaway database: sqlite, postgres or mariadb")
	flag.StringVar(&cfg.dsn, "dsn", "", "database to use instead, as driver[?options]:inner-dsn or a URL")
	flag.StringVar(&cfg.dir, "dir", "", "directory tree to index (default the Go installation's src)")
	flag.IntVar(&cfg.users, "users", 8, "users at work at the same time")
	seconds := flag.Float64("seconds", 21, "seconds of work, all columns together")
	flag.Parse()
	cfg.total = time.Duration(*seconds * float64(time.Second))
	if flag.NArg() > 0 || cfg.users < 1 || cfg.total <= 0 {
		fmt.Fprintln(os.Stderr, "quickstart: it takes flags only, and -users and -seconds must be positive, for example -users 8 -seconds 21")
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

// run works through the columns and prints the table. When ctx is done it stops
// early and prints what it has.
func run(ctx context.Context, cfg config, out io.Writer) error {
	each := cfg.total / time.Duration(len(columns))
	fmt.Fprintf(out, "%d users work %d times for %.3g seconds; with all else that takes about %.0f seconds\n",
		cfg.users, len(columns), each.Seconds(), cfg.total.Seconds()+4)
	db, cleanUp, err := openTarget(ctx, cfg, out)
	if err != nil {
		return err
	}
	defer cleanUp()
	files, err := readTree(ctx, cfg.dir, out)
	if err != nil {
		return err
	}
	for _, c := range columns {
		fmt.Fprintf(out, "%-9s %s\n", c.name+":", c.opens(db))
	}
	fmt.Fprintln(out)
	var results []*result
	for _, c := range columns {
		if ctx.Err() != nil {
			break
		}
		r, err := runColumn(ctx, c, db, files, cfg, out)
		if errors.Is(err, context.Canceled) { // before it had begun to work
			break
		}
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		results = append(results, r)
	}
	if len(results) == 0 {
		return errors.New("stopped before there was anything to show")
	}
	printTable(out, results)
	for _, r := range results {
		if r.column == "dblocker" && r.lost > 0 {
			return errLost
		}
	}
	return nil
}

// runColumn does the work on one handle.
func runColumn(ctx context.Context, c column, t target, files []file, cfg config, out io.Writer) (res *result, err error) {
	// The inner driver is wrapped, alike in all columns, in one that counts its
	// connections.
	counting, connections, err := countConnections(t, c.session(t))
	if err != nil {
		return nil, err
	}
	db, err := c.open(t, counting)
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
	w.work(ctx, cfg.total/time.Duration(len(columns)), func(elapsed time.Duration) {
		fmt.Fprintf(out, "%-8s  %3.0f s  %9s operations  %7s errors\n", c.name, elapsed.Seconds(),
			thousands(w.reads.done()+w.writes.done()), thousands(w.reads.failed()+w.writes.failed()))
	})
	lost, err := w.lostUpdates()
	if err != nil {
		return nil, fmt.Errorf("counting lost updates: %w", err)
	}
	return &result{column: c.name, reads: &w.reads, writes: &w.writes, lost: lost, renames: w.renames(), connections: connections.peak()}, nil
}
