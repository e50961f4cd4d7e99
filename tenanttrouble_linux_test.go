package dblocker_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/calmdocs/dblocker"
)

// TestTenantsThroughTrouble: two processes share the files of many users, of which few are open. One of them is killed again and again, and the disk
// is full for a while again and again. Nothing is lost, no file is broken, the other process has no other error than that the disk is full,
// and its memory and descriptors stay as they are. With -tenants it works for that long, with 10,000 users.
func TestTenantsThroughTrouble(t *testing.T) {
	task := tenantTask{Dir: t.TempDir(), Scope: dblocker.DatabaseScope, Users: 60, Open: 16, Goroutines: 8, OutOfRoom: true}
	during, size := 1500*time.Millisecond, "16m"
	if *tenantTime > 0 {
		task.Users, task.Open, task.Goroutines, during, size = 10000, 200, 64, *tenantTime, "512m"
	}
	mountSmall(t, task.Dir, size)
	var acked acknowledged
	var reading sync.WaitGroup
	begin := func() *tenantProcess {
		p := startTenantWorker(t, task)
		reading.Go(func() { p.read(&acked) })
		return p
	}
	survivor := begin()
	var seen []footprintOf
	const kills = 5
	for range kills {
		victim := begin()
		for step := range 6 {
			switch step {
			case 2:
				fillDisk(t, filepath.Join(task.Dir, "ballast"))
			case 3:
				if err := os.Remove(filepath.Join(task.Dir, "ballast")); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(during / kills / 6) // that they work
			seen = append(seen, footprintNow(t, survivor.Process.Pid))
		}
		victim.kill()
	}
	survivor.in.Close()
	reading.Wait()
	checkTenants(t, task, &acked)

	sum := 0
	for _, n := range acked.counts {
		sum += n
	}
	early, late := mostOf(seen[len(seen)/3:2*len(seen)/3]), mostOf(seen[2*len(seen)/3:])
	t.Logf("%d counts, %d that may be missing in that; the process that lives had at most %v in the middle, %v at the end", sum, acked.atWork, early, late)
	if sum == 0 || late.files > 12*task.Open {
		t.Errorf("%d descriptors for %d open databases", late.files, task.Open)
	}
	if *tenantTime > 0 && late.memory > early.memory*5/4 {
		t.Error("the memory grows")
	}
}

// A footprintOf is what a process has.
type footprintOf struct{ memory, files int } // resident, in kB

func (f footprintOf) String() string {
	return fmt.Sprintf("%d kB and %d descriptors", f.memory, f.files)
}

func footprintNow(t *testing.T, pid int) (f footprintOf) {
	t.Helper()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	status, err2 := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	fmt.Sscan(rest, &f.memory)
	f.files = len(files)
	return f
}

// mostOf returns the most of each.
func mostOf(all []footprintOf) (most footprintOf) {
	for _, f := range all {
		most.memory, most.files = max(most.memory, f.memory), max(most.files, f.files)
	}
	return most
}

// mountSmall makes a directory a file system that is soon full, until the test ends.
func mountSmall(t *testing.T, dir, size string) {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		if os.Getuid() == 0 && !errors.Is(err, syscall.EPERM) {
			t.Fatal(err)
		}
		t.Skipf("a small tmpfs cannot be mounted, which needs root: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
}
