//go:build unix

package dblocker

import (
	"os"
	"syscall"
)

// A fileID is the same for all names of a file, as long as the file exists.
type fileID struct{ device, inode uint64 }

// fileIDOf returns the ID of a file, if there is one and info tells.
func fileIDOf(info os.FileInfo) (id fileID, ok bool) {
	if info == nil {
		return fileID{}, false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{}, false
	}
	return fileID{uint64(st.Dev), uint64(st.Ino)}, true
}

// hasOtherNames tells whether other paths may lead to the file, even when symbolic links
// have been resolved.
func hasOtherNames(info os.FileInfo) bool {
	if info == nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return !ok || st.Nlink > 1
}
