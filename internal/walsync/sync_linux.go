package walsync

import (
	"os"
	"syscall"
)

// syncFile is fdatasync, as SQLite's: of what there is to know of the file it writes only what is needed to read it.
func syncFile(f *os.File) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = c.Control(func(fd uintptr) {
		for {
			if failed = syscall.Fdatasync(int(fd)); failed != syscall.EINTR {
				return
			}
		}
	})
	switch {
	case err != nil:
		return err
	case failed != nil:
		return os.NewSyscallError("fdatasync", failed)
	}
	return nil
}
