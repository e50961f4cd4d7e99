package bytelock

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

const knowsHolders = true

// TestExecInheritsNothing: a program that is started does not get the descriptors, which keep the locks.
func TestExecInheritsNothing(t *testing.T) {
	database := newDatabase(t)
	f := open(t, database)
	p := startProcess(t, newDatabase(t))
	p.tell("lock", "ann", Exclusive) // it runs
	descriptors, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.cmd.Process.Pid))
	if len(descriptors) == 0 {
		t.Fatal("it has no descriptors")
	}
	for _, d := range descriptors {
		if info, err := os.Stat(d); err == nil && os.SameFile(info, f.info) {
			t.Errorf("%s is the lock file", d)
		}
	}
}
