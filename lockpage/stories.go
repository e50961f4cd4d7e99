package lockpage

import (
	"slices"
	"time"

	"github.com/calmdocs/dblocker"
)

// A Story tells of a deadlock: who was refused, and what each in the circle had and wanted.
type Story struct {
	Time   time.Time `json:"time"`
	Waited string    `json:"waited"`
	Circle []Hold    `json:"circle"` // the wait that was refused, what was in its way, what that one waited for, and so on
}

const mostStories = 10

// story makes one of an event.
func (p *Page) story(e *dblocker.Event) Story {
	circle := e.Circle
	if len(circle) == 0 { // it does not lie in the lock table alone
		circle = []dblocker.HoldInfo{{What: e.What, User: e.User, Mode: e.Mode, Waiting: true, Kind: e.Held, Tag: e.Tag, For: e.Duration}}
		if e.Blocker != nil {
			circle = append(circle, *e.Blocker)
		}
	}
	s := Story{Time: e.Time, Waited: e.Duration.String()}
	for _, i := range circle[:min(len(circle), 12)] {
		s.Circle = append(s.Circle, p.take(i))
	}
	return s
}

// A work sums up what is done for several calls at once.
type work struct {
	times   int64
	calls   int64
	most    int64 // calls at once
	time    time.Duration
	longest time.Duration
	last    time.Time
}

func (w *work) add(e *dblocker.Event) {
	w.times++
	w.calls += int64(e.Count)
	w.most = max(w.most, int64(e.Count))
	w.time += e.Duration
	w.longest = max(w.longest, e.Duration)
	w.last = e.Time
}

// tenants are the users whose own databases are open, as far as events have told.
type tenants struct {
	open            map[string]struct{} // by how the user is shown
	opened, evicted int64
	failed          int64
	count           int      // of those that are open, in a copy
	newest          []string // of those that are open, the last of all
}

// mostTenants bounds what is remembered.
const mostTenants = 20000

func (t *tenants) add(user string, e *dblocker.Event) {
	switch {
	case e.Kind == dblocker.EventDatabaseEvicted:
		t.evicted++
		delete(t.open, user)
		t.newest = slices.DeleteFunc(t.newest, func(u string) bool { return u == user })
	case e.Err != nil:
		t.failed++
	case len(t.open) < mostTenants:
		if t.open == nil {
			t.open = make(map[string]struct{})
		}
		t.opened++
		t.open[user] = struct{}{}
		if len(t.newest) == 12 {
			t.newest = slices.Delete(t.newest, 0, 1)
		}
		t.newest = append(t.newest, user)
	}
}

// now returns a copy for the page.
func (t *tenants) now() tenants {
	c := *t
	c.count, c.open, c.newest = len(t.open), nil, slices.Clone(t.newest)
	return c
}
