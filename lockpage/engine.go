package lockpage

import (
	"slices"
	"strconv"
)

// engine is what lies behind the users' locks: the gate of a SQLite file, the connections, what is done for several at once.
func (m *markup) engine(v *DatabaseView, _ string) {
	if v.Statistics == nil {
		return
	}
	m.put(`<div class="cards">`)
	m.gate(v)
	m.connections(v)
	m.statements(v)
	m.together(v)
	m.processes(v)
	m.tenants(v)
	m.put(`</div>`)
}

// gate says who writes to the SQLite file.
func (m *markup) gate(v *DatabaseView) {
	if !v.gate.exists {
		return
	}
	m.put(`<section class="panel"><h3>Gate of the SQLite file</h3>`)
	if v.gate.held == 0 {
		m.put(`<p class="empty">It is open: nobody writes.</p>`)
	} else {
		m.put(`<p>`)
		m.queueOf(&v.gate, " leads")
		m.put(`</p>`)
	}
	m.put(`<dl class="facts">`)
	m.fact("waiting at it", thousands(int64(v.gate.waiting)))
	if v.gate.waiting > 0 {
		m.fact("the longest", inWords(v.gate.longest))
	}
	m.put(`</dl></section>`)
}

func (m *markup) queueOf(q *queue, leads fixed) {
	for i := range q.holders {
		h := &q.holders[i]
		m.put(`<b>`)
		m.text(h.Kind)
		m.put(`</b> `)
		if h.What == "gate" && h.User != "" { // of a file of his own
			m.element(`of user `, fitting(h.User, 30), ` `)
		}
		if (i == 0 || h.What == "gate" && h.User != "") && h.Mode == "exclusive" {
			m.put(leads)
		}
		if h.lasts > 0 {
			m.element(` for `, inWords(h.lasts), ``)
		}
		m.put(` `)
		m.where(h)
		m.put(`<br>`)
	}
	if more := q.held - len(q.holders); more > 0 {
		m.element(`and `, thousands(int64(more)), ` more`)
	}
}

// connections are those to the server, by what they are doing.
func (m *markup) connections(v *DatabaseView) {
	s := &v.Statistics.Server
	m.put(`<section class="panel"><h3>Server connections</h3>`)
	room := max(s.MaxOpenConnections, s.OpenConnections, 1)
	m.put(`<svg class="bars meter" role="img" preserveAspectRatio="none" viewBox="0 0 100 10"`)
	m.attr("aria-label", thousands(int64(s.InUse))+" in use, "+thousands(int64(s.Idle))+" idle")
	m.put(`><rect class="room" width="100" height="10"/>`)
	used := 100 * float64(s.InUse) / float64(room)
	m.span("bar", 0, used)
	m.span("bar pale", used, 100*float64(s.Idle)/float64(room))
	m.put(`</svg><dl class="facts">`)
	m.fact(`<span class="key">in use</span>`, thousands(int64(s.InUse)))
	m.fact(`<span class="key pale">idle</span>`, thousands(int64(s.Idle)))
	if s.MaxOpenConnections > 0 {
		m.fact("allowed", thousands(int64(s.MaxOpenConnections)))
	} else {
		m.fact("allowed", "no limit")
	}
	m.fact("waiting for one", thousands(int64(v.slots.waiting)))
	m.fact("waits so far", thousands(v.Statistics.Connections.Waits))
	m.fact("closed as idle or old", thousands(s.MaxIdleClosed+s.MaxIdleTimeClosed+s.MaxLifetimeClosed))
	m.put(`</dl></section>`)
}

func (m *markup) span(class fixed, x, width float64) {
	m.put(`<rect class="`, class, `" height="10" x="`)
	m.length(x)
	m.put(`" width="`)
	m.length(width)
	m.put(`"/>`)
}

func (m *markup) fact(name fixed, value string) {
	m.put(`<div><dt>`, name, `</dt><dd>`)
	m.text(value)
	m.put(`</dd></div>`)
}

// statements are those that connections keep prepared.
func (m *markup) statements(v *DatabaseView) {
	st := &v.Statistics.Statements
	if st.Hits+st.Misses == 0 {
		return
	}
	m.put(`<section class="panel"><h3>Statement cache</h3><dl class="facts">`)
	m.fact("kept prepared now", thousands(int64(st.Kept)))
	m.fact("found there", thousands(st.Hits))
	m.fact("not there", thousands(st.Misses))
	m.fact("hit rate", strconv.FormatInt(st.Hits*100/(st.Hits+st.Misses), 10)+" %")
	m.put(`</dl></section>`)
}

// together is what is done for several calls at once.
func (m *markup) together(v *DatabaseView) {
	st := v.Statistics
	if st.Batches+st.Alone+st.Syncs+st.Spills+v.SessionsLost == 0 {
		return
	}
	m.put(`<section class="panel"><h3>Done together</h3><dl class="facts">`)
	if st.Batches+st.Alone > 0 {
		m.fact("batches of writes", thousands(st.Batches))
		m.fact("statements in them", thousands(st.Combined))
		if v.batches.most > 0 {
			m.fact("most in one", thousands(v.batches.most))
			m.fact("longest batch", inWords(v.batches.longest))
		}
		m.fact("done alone after all", thousands(st.Alone))
	}
	if st.Syncs > 0 {
		m.fact("syncs of the log", thousands(st.Syncs))
		m.fact("calls that waited for one", thousands(st.SyncWaits))
		if v.syncs.times > 0 {
			m.fact("longest sync", inWords(v.syncs.longest))
		}
	}
	if st.Spills > 0 {
		m.fact("rows that made way", thousands(st.Spills))
	}
	if v.SessionsLost > 0 {
		m.fact("sessions lost", thousands(v.SessionsLost))
	}
	m.put(`</dl></section>`)
}

// processes are others that have locks, with lock_scope=database.
func (m *markup) processes(v *DatabaseView) {
	st := v.Statistics
	others := slices.DeleteFunc(slices.Clone(v.Holds), func(h Hold) bool { return h.Process == nil })
	if st.Processes.Waits+v.LocksLost == 0 && len(others) == 0 {
		return
	}
	m.put(`<section class="panel"><h3>Other processes</h3>`)
	if len(others) > 0 {
		m.put(`<ul class="plain">`)
		for i := range others[:min(len(others), 8)] {
			h := &others[i]
			m.put(`<li><b>`)
			m.text(fitting(h.title(), 40))
			m.put(`</b> `)
			m.text(h.Mode + ": ")
			m.where(h)
			m.put(`</li>`)
		}
		m.put(`</ul>`)
	}
	m.put(`<dl class="facts">`)
	m.fact("waits among processes", thousands(st.Processes.Waits))
	m.fact("locks handed over", thousands(st.HandOvers))
	if v.LocksLost > 0 {
		m.fact("locks lost", thousands(v.LocksLost))
	}
	m.put(`</dl></section>`)
}

// tenants are the users whose own databases are open.
func (m *markup) tenants(v *DatabaseView) {
	t, st := v.UserDatabases, &v.Statistics.Databases
	if t == nil {
		t = new(UserDatabases)
	}
	if st.Opened+t.Failed == 0 {
		return
	}
	m.put(`<section class="panel"><h3>Users' databases</h3><dl class="facts">`)
	m.fact("open", thousands(int64(st.Open)))
	m.fact("opened so far", thousands(st.Opened))
	m.fact("closed again", thousands(st.Evicted))
	if v.observed {
		m.fact("could not be opened", thousands(t.Failed))
	}
	if st.Waits.Waits+int64(st.Waiting) > 0 {
		m.fact("waiting for a place", thousands(int64(st.Waiting)))
		m.fact("waits for one so far", thousands(st.Waits.Waits))
	}
	m.put(`</dl>`)
	if len(t.Newest) > 0 {
		m.put(`<p class="note">Opened last: `)
		for i, user := range t.Newest {
			if i > 0 {
				m.put(`, `)
			}
			m.text(fitting(user, 30))
		}
		m.put(`</p>`)
	}
	m.put(`</section>`)
}
