package lockpage

import (
	"github.com/calmdocs/dblocker"
)

// Observe returns the function for the option [dblocker.Observe] of a handle that the page shows, or will show, under the name:
// with it the page knows of each wait, deadlock and slow hold from the beginning, also of those that were over before
// anybody looked. Without it the page has what [dblocker.Holds] and [dblocker.Stats] tell while somebody looks.
//
//	db, err := dblocker.OpenDB(connector, dblocker.Observe(page.Observe("app")))
//	page.Add("app", db)
func (p *Page) Observe(name string) func(dblocker.Event) {
	d := p.database(name)
	d.mu.Lock()
	d.observed = true
	d.mu.Unlock()
	return d.observe
}

// observe remembers what the page shows of an event. It keeps neither the event nor its context. Most events are waits, which come on
// goroutines that are new: so what is done for each has a small frame, and the rest is elsewhere.
func (d *database) observe(e dblocker.Event) {
	if e.Kind == dblocker.EventWaitEnded {
		d.waitEnded(&e)
	} else if e.Kind != dblocker.EventWaitBegan {
		d.seeEvent(&e)
	}
}

func (d *database) seeEvent(e *dblocker.Event) {
	switch e.Kind {
	case dblocker.EventDeadlock:
		s := d.page.story(e)
		d.mu.Lock()
		defer d.mu.Unlock()
		d.stories = append([]Story{s}, d.stories[:min(len(d.stories), mostStories-1)]...)
	case dblocker.EventHoldLong:
		r := d.page.recordOf(e, false)
		d.mu.Lock()
		defer d.mu.Unlock()
		d.holds.note(e.Time, r)
	case dblocker.EventDatabaseOpened, dblocker.EventDatabaseEvicted:
		user := tenant{e.User, d.page.user(e.User)}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.users.add(user, e)
	case dblocker.EventBatch, dblocker.EventSync, dblocker.EventSessionLost, dblocker.EventLockLost:
		d.mu.Lock()
		defer d.mu.Unlock()
		d.countEvent(e)
	}
}

func (d *database) countEvent(e *dblocker.Event) {
	switch e.Kind {
	case dblocker.EventBatch:
		d.batches.add(e)
	case dblocker.EventSync:
		d.syncs.add(e)
	case dblocker.EventSessionLost:
		d.lost++
	case dblocker.EventLockLost:
		d.lostLocks++
	}
}

func (d *database) waitEnded(e *dblocker.Event) {
	d.mu.Lock()
	s := d.history.at(e.Time)
	s.waits++
	s.time += e.Duration
	s.longest = max(s.longest, e.Duration)
	switch e.Outcome {
	case dblocker.OutcomeTimeout:
		s.timeouts++
	case dblocker.OutcomeDeadlock:
		s.deadlocks++
	}
	short := d.waits.isShort(e.Time, e.Duration)
	d.mu.Unlock()
	if !short {
		d.noteWait(e)
	}
}

func (d *database) noteWait(e *dblocker.Event) {
	r := d.page.recordOf(e, true)
	r.Outcome = string(e.Outcome)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waits.note(e.Time, r)
}

// recordOf makes a record of an event.
func (p *Page) recordOf(e *dblocker.Event, waiting bool) Record {
	i := dblocker.HoldInfo{
		What: e.What, User: e.User, Mode: e.Mode, Waiting: waiting, Kind: e.Held, Tag: e.Tag, Since: e.Time.Add(-e.Duration), For: e.Duration,
	}
	if e.Blocker != nil && e.Held == e.Blocker.Kind { // what is in the way is told of
		i.Process = e.Blocker.Process
	}
	return p.record(e.Time, i)
}
