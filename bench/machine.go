package main

import (
	"fmt"
	"os"
	"regexp"
	"runtime"

	"github.com/mattn/go-sqlite3"
)

// machine says what the figures were measured on.
func machine() string {
	version, _, _ := sqlite3.Version()
	return fmt.Sprintf("%s on %s/%s, %d CPUs%s; SQLite %s.", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), processor(), version)
}

// processor is the name of the processor, where Linux tells it.
func processor() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	name := regexp.MustCompile(`model name\s*: (.+)`).FindSubmatch(info)
	if name == nil {
		return ""
	}
	return " (" + string(name[1]) + ")"
}
