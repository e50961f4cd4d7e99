package seen

import (
	"log/slog"
	"strings"
	"testing"
)

// TestOnceSaysTheSameOnce, of whatever file it is; what differs otherwise is not the same, and errors are said each time.
func TestOnceSaysTheSameOnce(t *testing.T) {
	var log strings.Builder
	l := Once(slog.New(slog.NewTextHandler(&log, nil)))
	for range 2 {
		l.Warn("a", "file", "1", "parameter", "x")
		l.Warn("a", "file", "2", "parameter", "x")
		l.Warn("a", "file", "1", "parameter", "y")
		l.With("of", "it").Info("b")
		l.Error("c")
	}
	if n := strings.Count(log.String(), "\n"); n != 5 {
		t.Errorf("%d records, want 5:\n%s", n, &log)
	}
}
