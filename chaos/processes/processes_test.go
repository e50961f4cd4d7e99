//go:build unix

package processes

import (
	"slices"
	"testing"
	"time"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// reaching has locks that reach beyond the process.
const reaching = "&lock_scope=database"

// roundTime is short, so that a violation is found early and the history to be checked is small.
const roundTime = 4 * time.Second

// mostRounds is how many there may be until enough was tested, on a machine that is busy; mostOfControls, which are shorter, until what is
// wrong was found.
const mostRounds, mostOfControls = 10, 40

func engineOf(name string) *engine {
	for _, e := range engines {
		if e.name == name {
			return e
		}
	}
	panic("no engine " + name)
}

// TestProcesses holds the locks to their promise while everything fails that can.
func TestProcesses(t *testing.T) {
	seed := newSeed(t)
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			testdb.NoLeaks(t)
			w := newWorld(t, e)
			defer w.report()
			end := time.Now().Add(*duration)
			for round := uint64(0); time.Now().Before(end) || w.sum.isLittle() && round < mostRounds; round++ {
				for _, v := range w.round(seed+round, roundTime, allFaults, "work", reaching) {
					t.Errorf("round %d, seed %d: %s", round, seed, v)
				}
				if t.Failed() {
					return
				}
			}
			if w.sum.isLittle() {
				t.Errorf("only %v: nothing was tested", w.sum)
			}
		})
	}
}

// TestControls is the proof that TestProcesses can fail: the checks must find what is wrong.
func TestControls(t *testing.T) {
	const notLinear, overlap = "is not linearizable", "two have had one lock"
	seed := newSeed(t)
	for _, e := range engines {
		for _, control := range []struct {
			name    string
			only    string // on this engine
			role    string
			faults  faults
			options []string
			finds   []string
		}{
			{"no lock between processes", "", "work", nil, []string{""}, []string{notLinear, overlap}},
			{"one has other keys", "", "work", nil, []string{reaching, reaching, reaching, reaching + "&lockspace=other"}, []string{overlap}},
			{"the lock on another connection, and sessions killed", "servers", "other session", killedSessions, []string{""}, []string{notLinear}},
			{"locks of sessions and of rows", "mysql", "two kinds", nil, []string{""}, []string{notLinear}},
		} {
			if control.only == "servers" && e.server == nil || control.only == "mysql" && e.name != "mysql" {
				continue
			}
			t.Run(e.name+"/"+control.name, func(t *testing.T) {
				testdb.NoLeaks(t)
				w := newWorld(t, e)
				defer w.report()
				wanted := control.finds
				for round := uint64(0); round < mostOfControls && len(wanted) > 0; round++ {
					violations := w.round(seed+round, time.Second, control.faults, control.role, control.options...)
					wanted = slices.DeleteFunc(wanted, func(text string) bool {
						example := find(violations, text)
						if example != "" {
							t.Logf("found in round %d, as expected: %.300s", round, example)
						}
						return example != ""
					})
				}
				if len(wanted) > 0 {
					t.Errorf("not found: %q", wanted)
				}
			})
		}
	}
}
