package chaos

import (
	"flag"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/calmdocs/dblocker/internal/testdb"
)

var (
	duration = flag.Duration("chaos.duration", 8*time.Second, "how long the chaos lasts on each engine")
	seedFlag = flag.Uint64("chaos.seed", 0, "of all random choices; 0: a new one")
)

func newSeed(t *testing.T) uint64 {
	s := *seedFlag
	if s == 0 {
		s = rand.Uint64N(1e9) + 1
	}
	t.Logf("to repeat: -chaos.seed=%d", s)
	return s
}

// roundTime is short, so that a violation is found early and the history to be
// checked is small.
const roundTime = 3 * time.Second

// TestChaos holds the locks to their promise while everything fails that can.
func TestChaos(t *testing.T) {
	mysql.SetLogger(&mysql.NopLogger{})
	seed := newSeed(t)
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			testdb.NoLeaks(t)
			w := newWorld(t, e, seed, true)
			defer w.report()
			end := time.Now().Add(*duration)
			for round := uint64(0); time.Now().Before(end); round++ {
				for _, v := range w.round(seed+round, roundTime, true) {
					t.Errorf("round %d, seed %d: %s", round, seed, v)
				}
				if t.Failed() {
					return
				}
			}
			if w.sum.reads < 100 || w.sum.writes < 100 {
				t.Errorf("only %d reads and %d writes were answered: nothing was tested", w.sum.reads, w.sum.writes)
			}
		})
	}
}

// expected is what must be found without locks. SQLite lets only one transaction
// write at a time even then, so it is only seen that there are others beside it.
func (w *world) expected() string {
	if w.engine.server {
		return "not linearizable"
	}
	return "critical section"
}

func find(violations []string, text string) string {
	for _, v := range violations {
		if strings.Contains(v, text) {
			return v
		}
	}
	return ""
}

// TestWithoutLocks is the proof that TestChaos can fail: with each request another
// stranger to dblocker, and no fault at all, the same checks must find violations.
func TestWithoutLocks(t *testing.T) {
	seed := newSeed(t)
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			testdb.NoLeaks(t)
			w := newWorld(t, e, seed, false)
			for round := range uint64(10) {
				if example := find(w.round(seed+round, time.Second, false), w.expected()); example != "" {
					t.Logf("found, as expected: %s", example)
					return
				}
			}
			t.Errorf("nothing was found without locks that is %q", w.expected())
		})
	}
}
