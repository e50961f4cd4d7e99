package dblockertest

import (
	"testing"
	"time"
)

// SetPatience sets how long Check waits for what is just ending, until the test ends.
func SetPatience(t *testing.T, d time.Duration) {
	before := patience
	patience = d
	t.Cleanup(func() { patience = before })
}
