package main

import "os"

// A place is a directory for database files.
type place struct {
	name string // as -where knows it: tmpfs or disk
	dir  string
}

// memory is tmpfs where Linux has it, else the directory for temporary files. The
// report names the file system.
func memory() place {
	const shm = "/dev/shm"
	if fileSystem(shm) == "tmpfs" && writable(shm) {
		return place{"tmpfs", shm}
	}
	return place{"tmpfs", os.TempDir()}
}

func writable(dir string) bool {
	f, err := os.CreateTemp(dir, "dblocker-bench-")
	if err != nil {
		return false
	}
	f.Close()
	return os.Remove(f.Name()) == nil
}
