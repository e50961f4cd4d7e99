package main

import (
	"fmt"
	"os"
	"strings"
)

// A place is a directory for database files.
type place struct {
	name string // as -place knows it
	dir  string
	busy int // processes that keep the processors busy meanwhile
}

// beside is the same place beside busy processes.
func (p place) beside(busy int) place { return place{p.name + "-busy", p.dir, busy} }

func (p place) title() string {
	title := fmt.Sprintf("SQLite on %s (%s)", strings.TrimSuffix(p.name, "-busy"), fileSystem(p.dir))
	if p.busy > 0 {
		title += fmt.Sprintf(" beside %d busy processes", p.busy)
	}
	return title
}

// memory is tmpfs where Linux has it, else the directory for temporary files. The
// report names the file system.
func memory() place {
	const shm = "/dev/shm"
	if fileSystem(shm) == "tmpfs" && writable(shm) {
		return place{name: "tmpfs", dir: shm}
	}
	return place{name: "tmpfs", dir: os.TempDir()}
}

func writable(dir string) bool {
	f, err := os.CreateTemp(dir, "dblocker-bench-")
	if err != nil {
		return false
	}
	f.Close()
	return os.Remove(f.Name()) == nil
}
