//go:build !windows

package walsync

import "os"

// openShared opens a file for its syncs.
func openShared(path string) (*os.File, error) { return os.OpenFile(path, os.O_RDWR, 0) }

// syncDir syncs a directory.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
