package combine

import (
	"testing"
	"time"

	"github.com/calmdocs/dblocker/internal/sqltext"
)

// TestPace: what has taken long is not short again at once, but after some runs that were quick.
func TestPace(t *testing.T) {
	const query = "DELETE FROM log WHERE at < ?"
	env := &Env{Texts: sqltext.NewCache(sqltext.SQLite), Long: time.Millisecond}
	if p := env.paceOf(query); p != unseen {
		t.Errorf("before it has run: %v", p)
	}
	for env.Texts.Took(query) == nil {
		env.Texts.Classify(query)
	}
	quickRuns := func(took time.Duration) (n int) {
		for env.noteTook(query, took); env.paceOf(query) != short; n++ {
			env.noteTook(query, time.Microsecond)
		}
		return n
	}
	if n := quickRuns(time.Microsecond); n != 0 {
		t.Errorf("a quick one is short after %d runs, want at once", n)
	}
	if n := quickRuns(env.Long); n != 1 {
		t.Errorf("one that was held up is short after %d more, want 1", n)
	}
	if n := quickRuns(10 * time.Second); n < 20 || n > 50 {
		t.Errorf("one that can take 10 s is short after %d that were quick", n)
	}
	if n := quickRuns(never); n > 100 {
		t.Errorf("one that had to run alone is short after %d more", n)
	}
}
