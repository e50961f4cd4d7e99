//go:build !linux

package bytelock

import "os"

// createEmpty makes an empty file. Here that opens it, and closes it at once; who has opened it by SQLite between the two has no locks
// on it yet that matter, since there is nothing in it.
func createEmpty(path string, perm os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	return f.Close()
}
