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

// tenants are the users whose own databases were opened last, as far as events have told. How many there are Stats tells.
type tenants struct {
	failed int64
	newest []tenant // of those that are open
}

type tenant struct{ id, shown string }

const mostTenants = 12

func (t *tenants) add(user tenant, e *dblocker.Event) {
	if e.Kind == dblocker.EventDatabaseOpened && e.Err != nil {
		t.failed++
		return
	}
	t.newest = slices.DeleteFunc(t.newest, func(o tenant) bool { return o.id == user.id })
	if e.Kind == dblocker.EventDatabaseEvicted {
		return
	}
	if len(t.newest) == mostTenants {
		t.newest = slices.Delete(t.newest, 0, 1)
	}
	t.newest = append(t.newest, user)
}

// now returns a copy for the page; nil if there is nothing to tell.
func (t *tenants) now() *UserDatabases {
	if t.failed == 0 && len(t.newest) == 0 {
		return nil
	}
	now := &UserDatabases{Newest: []string{}, Failed: t.failed}
	for _, u := range slices.Backward(t.newest) {
		now.Newest = append(now.Newest, u.shown)
	}
	return now
}
