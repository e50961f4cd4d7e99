package testdb

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
)

// An account is the user that servers run as.
type account struct {
	uid, gid int
}

// unprivileged returns the account for servers when we are root, which they refuse to run as, and nil when we are not.
func unprivileged() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("nobody")
	if err != nil {
		return nil, fmt.Errorf("the servers refuse to run as root: %w", err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.Atoi(u.Gid)
	return &account{uid, gid}, err
}

// tempDir makes a directory that the account owns and can reach: root's own temporary directory may be closed to others.
func (u *account) tempDir() (string, error) {
	if u == nil {
		return os.MkdirTemp("", "dblocker-test-")
	}
	parent := os.TempDir()
	if !openToAll(parent) {
		parent = "/tmp"
	}
	dir, err := os.MkdirTemp(parent, "dblocker-test-")
	if err != nil {
		return "", err
	}
	return dir, os.Chown(dir, u.uid, u.gid)
}

// openToAll says whether every user can pass through the directory and all those above it.
func openToAll(dir string) bool {
	for ; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil || info.Mode()&0o001 == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}
