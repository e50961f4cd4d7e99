package lockpage

import (
	"strings"
	"testing"
	"time"

	"github.com/calmdocs/dblocker"
)

// TestProcessesAreShown: waits for other processes, who kept others waiting, and locks that were lost.
func TestProcessesAreShown(t *testing.T) {
	page := new(Page)
	observe := page.Observe("app")
	now := time.Now()
	observe(dblocker.Event{Kind: dblocker.EventWaitEnded, Time: now, Duration: 7 * time.Second, User: "ann", Mode: dblocker.Exclusive, What: "process", Held: "statement", Outcome: dblocker.OutcomeTimeout})
	observe(dblocker.Event{Kind: dblocker.EventWaitEnded, Time: now, Duration: 8 * time.Second, Mode: dblocker.Exclusive, What: "process", Held: "section", Outcome: dblocker.OutcomeGranted})
	observe(dblocker.Event{Kind: dblocker.EventHoldLong, Time: now, Duration: 9 * time.Second, User: "ben", Mode: dblocker.Exclusive, What: "lock", Held: "process",
		Blocker: &dblocker.HoldInfo{Kind: "process", Process: &dblocker.ProcessInfo{Session: "4711", Name: "nightly"}}})
	observe(dblocker.Event{Kind: dblocker.EventLockLost, Time: now, User: "ann", What: "process", Held: "section"})
	d := page.database("app")
	d.view = page.viewOf(&dblocker.Statistics{}, nil)
	text := string(renderPage(&View{Time: now, Databases: []DatabaseView{d.seenView(now)}}, false))
	for _, want := range []string{"user ann among processes", "all users among processes", "user ben", "session 4711 of another process", "nightly", "<dt>locks lost</dt><dd>1</dd>"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not have %q:\n%s", want, text)
		}
	}
}
