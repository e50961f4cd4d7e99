//go:build unix

package sqlite

import (
	"os"
	"syscall"
)

// A FileID is the same for all names of a file, as long as the file exists.
type FileID struct{ device, inode uint64 }

// FileIDOf returns the ID of a file, if there is one and info tells.
func FileIDOf(info os.FileInfo) (id FileID, ok bool) {
	if info == nil {
		return FileID{}, false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return FileID{}, false
	}
	return FileID{uint64(st.Dev), uint64(st.Ino)}, true
}

// HasOtherNames tells whether other paths may lead to the file, even when symbolic links
// have been resolved.
func HasOtherNames(info os.FileInfo) bool {
	if info == nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return !ok || st.Nlink > 1
}
