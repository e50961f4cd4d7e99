//go:build unix

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// offline puts tools first on the PATH that can download nothing, and returns a file with the commands that apt-get was given.
func offline(t *testing.T) (commands string) {
	t.Helper()
	dir := t.TempDir()
	commands = filepath.Join(dir, "commands")
	script := "#!/bin/sh\necho \"$*\" >>" + commands + "\ncase \"$*\" in *Dir::State*) echo 'no such host' >&2; exit 100;; esac\n"
	for _, tool := range []string{"apt-get", "dpkg-deb"} {
		if err := os.WriteFile(filepath.Join(dir, tool), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv(testdb.IgnoreInstalled, "1")
	t.Setenv(testdb.Unpacked, "")
	t.Setenv(testdb.Cache, t.TempDir())
	t.Setenv(testdb.PostgreSQL.Env, "")
	t.Setenv(testdb.MariaDB.Env, "")
	return commands
}

func TestWithoutNetworkServersAreLeftOutAndNothingIsInstalled(t *testing.T) {
	testdb.NoLeaks(t)
	silence(t)
	commands := offline(t)
	t.Setenv("CI", "")
	s := new(summary)
	if err := bringServers(t.Context(), s); err != nil {
		t.Errorf("error %v", err)
	}
	if servers, err := launchServers(t.Context()); err != nil || len(servers) != 0 {
		t.Errorf("servers %v, error %v", servers, err)
	}
	if len(s.leftOut) != 3 || !strings.Contains(s.leftOut[0], "PostgreSQL") {
		t.Errorf("left out: %q; want the three servers", s.leftOut)
	}
	checkInstalled(t, commands, false)
}

func TestWithoutServersCIFails(t *testing.T) {
	testdb.NoLeaks(t)
	silence(t)
	commands := offline(t)
	t.Setenv("CI", "true")
	err := bringServers(t.Context(), new(summary))
	if err == nil || !strings.Contains(err.Error(), "apt-get install postgresql mariadb-server pgbouncer\n") {
		t.Errorf("error %v; want one that says what to install", err)
	}
	checkInstalled(t, commands, os.Geteuid() == 0) // they do not appear, since they are hidden
}

func checkInstalled(t *testing.T, commands string, want bool) {
	t.Helper()
	content, err := os.ReadFile(commands)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Contains(string(content), "\ninstall -y"); got != want {
		t.Errorf("installed: %v, want %v; apt-get was told:\n%s", got, want, content)
	}
}
