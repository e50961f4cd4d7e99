//go:build !linux

package walsync

import "os"

// syncFile is the sync of the system: F_FULLFSYNC on Darwin, where fsync would leave the data in the disk's own memory;
// FlushFileBuffers on Windows; fsync elsewhere.
func syncFile(f *os.File) error { return f.Sync() }
