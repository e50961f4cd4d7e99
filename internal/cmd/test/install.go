//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// bringPrograms brings the engines whose programs are not on this machine: it downloads and unpacks them, or in CI, if that
// fails, installs them.
func bringPrograms(ctx context.Context, engines []*testdb.Engine) error {
	missing := withoutPrograms(engines)
	if len(missing) == 0 {
		return nil
	}
	progress("%s: not on this machine; nothing is installed: their packages are downloaded and unpacked in a cache", names(missing))
	err := testdb.Unpack(ctx, progress, missing...)
	if err == nil || ctx.Err() != nil {
		return err
	}
	if inCI() && os.Geteuid() == 0 {
		progress("%v", err)
		progress("they cannot be unpacked; since CI is set and this is root, they are installed instead")
		err = aptInstall(ctx, packages(missing))
		if missing = withoutPrograms(missing); err == nil && len(missing) > 0 {
			err = errors.New("their packages were installed, but the binaries are not found")
		}
	}
	if err == nil {
		return nil
	}
	return instructions(missing, err.Error())
}

func withoutPrograms(engines []*testdb.Engine) []*testdb.Engine {
	return slices.DeleteFunc(slices.Clone(engines), func(e *testdb.Engine) bool { return e.Installed() != "" })
}

func names(engines []*testdb.Engine) string {
	var names []string
	for _, e := range engines {
		names = append(names, e.Name)
	}
	return strings.Join(names, ", ")
}

func packages(engines []*testdb.Engine) []string {
	var names []string
	for _, e := range engines {
		names = append(names, e.Package)
	}
	return names
}

// aptInstall refuses to remove anything: on a machine with MySQL the packages of MariaDB would replace it. An interrupt lets
// apt-get end in order.
func aptInstall(ctx context.Context, names []string) error {
	install := append([]string{"install", "-y", "--no-install-recommends", "--no-remove"}, names...)
	for _, args := range [][]string{{"update"}, install} {
		progress("apt-get %s", strings.Join(args, " "))
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("apt-get %s: %w", args[0], err)
		}
	}
	return nil
}

// instructions is the error that leaves the installation to the reader.
func instructions(missing []*testdb.Engine, why string) error {
	var b strings.Builder
	fmt.Fprintln(&b, "the tests need servers that this machine does not have, and they cannot be downloaded:", why)
	fmt.Fprintln(&b, "On Debian and Ubuntu:")
	fmt.Fprintf(&b, "    sudo apt-get update && sudo apt-get install %s\n", strings.Join(packages(missing), " "))
	fmt.Fprintln(&b, "Elsewhere install the same servers, so that their binaries are on the PATH, or name running ones:")
	for _, e := range missing {
		if e.Env == "" {
			continue
		}
		fmt.Fprintf(&b, "    export %s='%s'\n", e.Env, e.Example)
	}
	fmt.Fprint(&b, "Then repeat the command.")
	return fmt.Errorf("%s", b.String())
}
