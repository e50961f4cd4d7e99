package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"
)

// memoryWorkload is the one that measures memory, each time in a process of its own.
const memoryWorkload = "memory"

// A footprint is what databases cost that are open, and users whose databases were open.
type footprint struct {
	Heap, Resident, Files float64 // of each open database: bytes of Go, bytes of the process, descriptors
	Known                 float64 // bytes of Go for each user whose database is closed
}

// measuringMemory is in the environment of that process: as JSON a memoryTask.
const measuringMemory = "DBLOCKER_BENCH_MEMORY"

type memoryTask struct {
	Contender string
	Files     tenantFiles
	Open      int // databases at a time
	Known     int // users
}

// memoryIfTold makes the process measure, if it was started for that, and print the footprint.
func memoryIfTold() {
	told := os.Getenv(measuringMemory)
	if told == "" {
		return
	}
	var task memoryTask
	err := json.Unmarshal([]byte(told), &task)
	var f footprint
	if err == nil {
		f, err = task.run()
	}
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(f)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// elsewhere does the task in another process.
func (m memoryTask) elsewhere() (f footprint, err error) {
	self, err := os.Executable()
	if err != nil {
		return f, err
	}
	task, err := json.Marshal(m)
	if err != nil {
		return f, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), measuringMemory+"="+string(task))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	return f, errors.Join(err, json.Unmarshal(out, &f))
}

func (m memoryTask) run() (f footprint, err error) {
	for _, w := range homeWays {
		if w.name == m.Contender {
			return m.of(w)
		}
	}
	return f, fmt.Errorf("there is no contender %s", m.Contender)
}

// of has all users read once, one after the other. The first two open what there is besides a user's database.
func (m memoryTask) of(w homeWay) (f footprint, err error) {
	h, err := w.open(m.Files, m.Open)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	s, ctx := &tenantStore{home: h}, context.Background()
	before, opened := usage{}, usage{}
	for user := 1; user <= m.Known; user++ {
		if err := s.read(ctx, user); err != nil {
			return f, err
		}
		switch user {
		case 2:
			before = settledUsage(0)
		case m.Open:
			opened = settledUsage(0)
		}
	}
	after := settledUsage(opened.files)
	n := float64(m.Open - 2)
	return footprint{
		Heap:     (opened.heap - before.heap) / n,
		Resident: (opened.resident - before.resident) / n,
		Files:    (opened.files - before.files) / n,
		Known:    (after.heap - opened.heap) / float64(m.Known-m.Open),
	}, nil
}

// A usage is what the process has.
type usage struct{ heap, resident, files float64 }

// settledUsage waits for databases that are being closed, until no more files are open than given, unless that is 0.
func settledUsage(files float64) (u usage) {
	for range 100 {
		u = currentUsage()
		if files == 0 || u.files <= files {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	return u
}

func currentUsage() (u usage) {
	runtime.GC()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u.heap = float64(m.HeapAlloc + m.StackInuse)
	if statm, err := os.ReadFile("/proc/self/statm"); err == nil {
		pages, _ := strconv.ParseFloat(string(bytes.Fields(statm)[1]), 64)
		u.resident = pages * float64(os.Getpagesize())
	}
	if open, err := os.ReadDir("/proc/self/fd"); err == nil {
		u.files = float64(len(open))
	}
	return u
}

// compareMemory has each contender measured in a process of its own. The figure is what an open database costs in memory.
func compareMemory(p place, contenders []tenantContender) *comparison {
	compared := &comparison{where: p.name, workload: memoryWorkload, title: "bytes"}
	for _, tc := range contenders {
		e := &entry{contender: tc.name}
		e.open = func(_ context.Context, p plan) (*trial, error) {
			known, open := p.tenants()
			f, err := memoryTask{tc.name, tc.files, open, known}.elsewhere()
			e.prints = append(e.prints, f)
			return &trial{
				workers: []worker{func(*tally) error { return nil }},
				sum:     func(context.Context) (int, error) { return 0, nil },
				close:   func() error { return nil },
			}, err
		}
		compared.entries = append(compared.entries, e)
	}
	compared.baseline = compared.entries[0]
	compared.figure = func(i, round int) float64 { return compared.entries[i].prints[round].Resident }
	return compared
}

// memoryTable is a line for each contender.
func memoryTable(title string, c *comparison) *table {
	t := &table{title: title + ": memory", head: []string{"contender", "open database: heap of Go", "resident", "descriptors", "user whose database is closed: heap of Go"}}
	for _, e := range c.entries {
		of := func(value func(footprint) float64) float64 {
			values := make([]float64, len(e.samples))
			for i := range values {
				values[i] = value(e.prints[i])
			}
			return median(values)
		}
		bytes := func(value func(footprint) float64) string { return fmt.Sprintf("%.0f B", of(value)) }
		t.add(e.contender, bytes(func(f footprint) float64 { return f.Heap }), bytes(func(f footprint) float64 { return f.Resident }),
			short(of(func(f footprint) float64 { return f.Files })), bytes(func(f footprint) float64 { return f.Known }))
	}
	return t
}
