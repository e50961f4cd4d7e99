//go:build unix

// Command test passes every test of this repository on a machine with Go, gcc and git:
//
//	go run ./internal/cmd/test [flags of go test]
//
// It brings a PostgreSQL and a MariaDB server and runs "go test ./..." in the root module and in the modules below it, with the
// flags it was given, such as -race, -count=1 or -run. It says at the start what it will do, and at the end what has passed and
// what was left out. The root is tested beside the other modules, on servers of its own, unless a flag is for figures or output, as -bench
// and -v are, or servers are named. The servers are
//
//   - those of DBLOCKER_TEST_POSTGRES (a postgres:// URL) and DBLOCKER_TEST_MYSQL (a go-sql-driver DSN or a mysql:// URL), where
//     set; the users need the right to create databases, and on MySQL to see and kill the sessions of others;
//   - else throwaway servers, made from the installed binaries in a temporary directory and stopped at the end;
//   - else the same from Debian's packages, which it downloads and unpacks in the user's cache directory. That takes apt-get, but
//     no root, and nothing is installed. DBLOCKER_TEST_CACHE names another directory;
//   - else it says what to install, and runs the tests that need no server. With CI=true it fails instead; as root it installs
//     the packages with apt-get first.
//
// DBLOCKER_TEST_IGNORE_INSTALLED=1 hides what is installed. A module that needs a newer Go, or modules that cannot be downloaded,
// is left out; with CI=true that is a failure.
//
// Its exit status is that of go test.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"time"
)

// interrupted is the exit status of a shell command that Ctrl-C ended.
const interrupted = 130

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(flags []string) int {
	if slices.ContainsFunc(flags, isHelp) {
		fmt.Fprintln(os.Stderr, "usage: go run ./internal/cmd/test [flags of go test]; see go doc ./internal/cmd/test")
		return 0
	}
	ctx, cancel := untilInterrupted()
	defer cancel()

	start := time.Now()
	modules, err := findModules(ctx)
	if err != nil {
		return report(ctx, err)
	}
	announce(modules, flags)
	s := &summary{start: start}
	if err := bringServers(ctx, s); err != nil {
		return report(ctx, err)
	}
	s.modules = len(modules)
	status := testLanes(ctx, lanesOf(modules, flags), flags, s)
	s.print(os.Stderr, status)
	return status
}

func isHelp(flag string) bool { return flag == "-h" || flag == "-help" || flag == "--help" }

// inCI says whether what is left out is a failure: a skip there would pass for a success.
func inCI() bool { return os.Getenv("CI") != "" }

// report prints the error and returns the exit status that stands for it. What go test has failed at it has said itself.
func report(ctx context.Context, err error) int {
	if ctx.Err() != nil {
		progress("interrupted")
		return interrupted
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() > 0 {
		return exit.ExitCode()
	}
	progress("%v", err)
	return 1
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "==> "+format+"\n", args...)
}
