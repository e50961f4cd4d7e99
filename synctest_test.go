package dblocker

import (
	"testing"
	"testing/synctest"
	"time"
)

// bubble runs f as synctest.Test does, and then lets time go on for a little: what a
// handle does in the background may sleep between two tries for as long, and time stands
// still once f has returned.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(func() { time.Sleep(2 * yieldTime) })
		f(t)
	})
}
