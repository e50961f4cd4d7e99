//go:build unix

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// installMissing installs the engines that the environment does not name and that are not on this machine.
func installMissing(ctx context.Context, engines []*testdb.Engine) error {
	missing := withoutServer(engines)
	if len(missing) == 0 {
		return nil
	}
	asRoot, ok := becomeRoot(ctx)
	if !ok {
		return instructions(missing, "they cannot be installed from here: that takes apt-get, and root or sudo without a password")
	}
	if err := aptInstall(ctx, asRoot, packages(missing)); err != nil {
		return instructions(missing, err.Error())
	}
	if missing = withoutServer(missing); len(missing) > 0 {
		return instructions(missing, "their packages were installed, but the binaries are not found")
	}
	return nil
}

func withoutServer(engines []*testdb.Engine) []*testdb.Engine {
	var missing []*testdb.Engine
	for _, e := range engines {
		named := e.Env != "" && os.Getenv(e.Env) != ""
		if !named && e.Installed() == "" {
			missing = append(missing, e)
		}
	}
	return missing
}

func packages(engines []*testdb.Engine) []string {
	var names []string
	for _, e := range engines {
		names = append(names, e.Package)
	}
	return names
}

// becomeRoot returns what to put before a command so that root runs it without asking for a password.
func becomeRoot(ctx context.Context) (prefix []string, ok bool) {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return nil, false
	}
	if os.Geteuid() == 0 {
		return nil, true
	}
	sudo := []string{"sudo", "-n"}
	return sudo, exec.CommandContext(ctx, "sudo", "-n", "true").Run() == nil
}

// aptInstall refuses to remove anything: on a machine with MySQL the packages of MariaDB would replace it. An interrupt lets
// apt-get end in order.
func aptInstall(ctx context.Context, asRoot, names []string) error {
	apt := append(asRoot, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get")
	install := append([]string{"install", "-y", "--no-install-recommends", "--no-remove"}, names...)
	for _, args := range [][]string{{"update"}, install} {
		progress("apt-get %s", strings.Join(args, " "))
		argv := append(apt[:len(apt):len(apt)], args...)
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
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
	fmt.Fprintln(&b, "the tests need servers that this machine does not have;", why)
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
