package lockpage

import (
	"sync"
	"time"

	"github.com/calmdocs/dblocker"
)

// A database is a handle on the page, and what is remembered of it.
type database struct {
	page *Page
	name string

	mu        sync.Mutex // guards what follows; nothing of dblocker is called under it
	db        dblocker.Handle
	busy      bool      // somebody looks
	due       time.Time // when to look again
	view      DatabaseView
	observed  bool
	gated     bool    // there is a gate
	counted   *second // of all time, when it was last looked at; nil before that
	countedAt time.Time
	history   history
	holds     records
	waits     records
	stories   []Story
	users     tenants
	batches   work
	syncs     work
	lost      int64 // sessions
	lostLocks int64 // among processes
}

const (
	often  = 500 * time.Millisecond // is how often the page changes at most
	rarely = 5 * time.Second        // at least
	share  = 50                     // of the time, one part is for looking at most
	prompt = 250 * time.Millisecond // is how long the page waits for a handle
)

// look asks the handle, if it is time, nobody else does so now, and it is open. The answer is in d.view then.
func (d *database) look(now time.Time) {
	d.mu.Lock()
	db := d.db
	if db == nil || d.busy || now.Before(d.due) {
		d.mu.Unlock()
		return
	}
	d.busy = true
	d.mu.Unlock()
	v, st, holds := d.ask(db)
	end := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.busy = false
	d.due = now.Add(min(max(often*9/10, share*end.Sub(now)), rarely))
	if st != nil && !d.observed {
		d.count(end, st)
	}
	d.seeRecords(end, holds)
	d.gated = d.gated || v.gate.exists || v.Statistics != nil && v.Statistics.Batches+v.Statistics.Alone+v.Statistics.Syncs > 0
	v.gate.exists = d.gated
	d.view = v
}

// ask makes a view of what the handle tells. It may take a second, when the handle asks its database.
func (d *database) ask(db dblocker.Handle) (v DatabaseView, st *dblocker.Statistics, holds []dblocker.HoldInfo) {
	defer func() {
		if p := recover(); p != nil { // of a handle that is the program's own
			v, st, holds = DatabaseView{Error: "looking at it has panicked"}, nil, nil
		}
		v.Name, v.As = d.name, time.Now()
	}()
	s, err := dblocker.Stats(db)
	if err != nil {
		return DatabaseView{Error: limited(err.Error(), 1000)}, nil, nil
	}
	if holds, err = dblocker.Holds(db); err != nil {
		return DatabaseView{Error: limited(err.Error(), 1000)}, nil, nil
	}
	return d.page.viewOf(&s, holds), &s, holds
}

// viewOf sums up the holds, which are in the order of their age.
func (p *Page) viewOf(st *dblocker.Statistics, holds []dblocker.HoldInfo) DatabaseView {
	v := DatabaseView{Statistics: st, Held: st.Held, Waiting: st.Waiting}
	links := link(holds)
	v.graph = draw(links.nodes)
	listed, waits := 0, 0
	for i := range holds {
		h := &holds[i]
		v.seen(p, h)
		n, more := &listed, &v.More
		if h.Waiting {
			n, more = &waits, &v.MoreWaiting
		}
		if *n++; *n > most {
			*more++
			continue
		}
		v.Holds = append(v.Holds, links.describe(p, h))
	}
	v.graph.describe(p)
	return v
}

// seen counts a hold.
func (v *DatabaseView) seen(p *Page, h *dblocker.HoldInfo) {
	if h.Waiting && h.For > v.longest.wait {
		v.longest.wait = h.For
	}
	if !h.Waiting && h.For > v.longest.hold && h.What == "lock" {
		v.longest.hold = h.For
	}
	var q *queue
	switch h.What {
	case "connection":
		q = &v.slots
	case "gate":
		q = &v.gate
	default:
		return
	}
	q.exists = true
	if h.Waiting {
		q.waiting++
		q.longest = max(q.longest, h.For)
		return
	}
	if q.held++; len(q.holders) < 4 {
		q.holders = append(q.holders, p.take(*h))
	}
}

// describe is take, and tells who is in the way.
func (l *linking) describe(p *Page, i *dblocker.HoldInfo) Hold {
	h := p.take(*i)
	n := l.known[i.Request]
	if i.Request == 0 {
		n = l.nobodys[i]
	}
	switch {
	case n == nil:
	case i.Waiting && n.wait != nil && thingOf(n.wait) == thingOf(i) && n.waitsFor != nil:
		h.BlockedBy = n.waitsFor.hold.Request
	case !i.Waiting && n.hold != nil && thingOf(n.hold) == thingOf(i):
		h.Blocked = n.blocks
	}
	return h
}

// putIntoWords sets the fields that are for programs only.
func (v *DatabaseView) putIntoWords() {
	if v.Holds == nil {
		v.Holds = []Hold{}
	}
	v.WaitingAtGate = v.gate.waiting
	v.Late = durationText(v.late)
	v.LongestHold, v.LongestWait = durationText(v.longest.hold), durationText(v.longest.wait)
	v.MostInBatch, v.LongestBatch, v.LongestSync = v.batches.most, durationText(v.batches.longest), durationText(v.syncs.longest)
}

// seenView returns what was last seen, with what is remembered.
func (d *database) seenView(now time.Time) DatabaseView {
	d.mu.Lock()
	defer d.mu.Unlock()
	v := d.view
	v.Name = d.name
	if d.db == nil {
		v.Error = "not open yet"
	}
	if d.busy && !v.As.IsZero() && now.Sub(v.As) > 2*time.Second {
		v.late = now.Sub(v.As)
	}
	v.history, v.observed = d.history.until(now), d.observed
	v.Minutes = minutes(v.history)
	v.SlowHolds, v.LongestWaits = d.holds.recent(now), d.waits.recent(now)
	v.Deadlocks = append([]Story(nil), d.stories...)
	v.batches, v.syncs, v.SessionsLost, v.LocksLost, v.UserDatabases = d.batches, d.syncs, d.lost, d.lostLocks, d.users.now()
	v.putIntoWords()
	return v
}
