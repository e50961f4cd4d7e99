//go:build linux || darwin

package bytelock

import (
	"os"
	"syscall"
)

// noFollow is for a lock file that somebody else may have put there as a link, as for SQLite's journals.
const noFollow = syscall.O_NOFOLLOW

// linksOf returns how many names a file has.
func linksOf(info os.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Nlink)
	}
	return 1
}

// giveTo gives a new file to the owner of the database, if we are root.
func giveTo(f *os.File, db os.FileInfo) {
	if st, ok := db.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		f.Chown(int(st.Uid), int(st.Gid))
	}
}
