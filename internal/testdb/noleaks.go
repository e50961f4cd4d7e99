package testdb

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

// settle is how long after a test connections and goroutines may take to end: pools close theirs in the background, and test
// machines are busy.
var settle = 30 * time.Second

// NoLeaks fails the test if a goroutine that started during the test is left when it ends. Call it first, so that it looks
// after the test's other cleanups. It cannot tell the goroutines of tests that run at the same time from each other: not for
// parallel tests.
func NoLeaks(t testing.TB) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		t.Helper()
		if err := goroutinesLeft(before); err != nil {
			t.Errorf("goroutines are left %v after the test: %v", settle, err)
		}
	})
}

func goroutinesLeft(before goleak.Option) error {
	deadline := time.Now().Add(settle)
	for {
		// The shared server may have been started during the test, and stays.
		err := goleak.Find(before, goleak.IgnoreAnyFunction(reaper))
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}
