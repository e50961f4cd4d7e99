package lockpage

// records are the slowest holds, the longest waits, and deadlocks.
func (m *markup) records(v *DatabaseView, _ string) {
	if len(v.Deadlocks)+len(v.SlowHolds)+len(v.LongestWaits) == 0 {
		return
	}
	m.put(`<div class="cards wide">`)
	if len(v.Deadlocks) > 0 {
		m.put(`<section class="panel"><h3>Deadlocks</h3><ol class="stories">`)
		for i := range v.Deadlocks {
			m.story(&v.Deadlocks[i])
		}
		m.put(`</ol></section>`)
	}
	m.longest("Slowest holds", v.SlowHolds)
	m.longest("Longest waits", v.LongestWaits)
	m.put(`</div>`)
}

// story tells of a deadlock from both sides.
func (m *markup) story(s *Story) {
	m.element(`<li><p><time>`, s.Time.Format("15:04:05"), `</time> One of `)
	waits := 0
	for i := range s.Circle {
		if s.Circle[i].Waiting {
			waits++
		}
	}
	m.element(``, thousands(int64(max(waits, 2))), ` was refused with <code>ErrDeadlock</code>, and the others went on.</p><ul>`)
	for i := range s.Circle {
		h := &s.Circle[i]
		m.put(`<li>`)
		switch {
		case i == 0:
			m.put(`<span class="badge bad">refused</span> wanted `)
		case h.Waiting:
			m.put(`<span class="badge">waited</span> for `)
		default:
			m.put(`<span class="badge">had</span> `)
		}
		m.put(`<b>`)
		m.text(fitting(h.title(), 40))
		m.put(`</b> `)
		m.text(h.Mode + ", " + h.Kind)
		if h.lasts > 0 {
			m.element(`, `, inWords(h.lasts), ``)
		}
		m.put(` `)
		m.where(h)
		m.put(`</li>`)
	}
	m.put(`</ul></li>`)
}

// longest lists holds or waits by their length.
func (m *markup) longest(name fixed, records []Record) {
	if len(records) == 0 {
		return
	}
	m.put(`<section class="panel"><h3>`, name, `, last 15 min</h3><ol class="plain">`)
	for i := range records {
		r := &records[i]
		m.put(`<li class="`, patience(r.lasts), `"><b class="length">`)
		m.text(inWords(r.lasts))
		m.put(`</b> <span>`)
		m.text(fitting(r.title(), 40))
		m.put(` <span class="muted">`)
		m.text(r.Mode + ", " + r.Kind)
		if r.Outcome != "" && r.Outcome != "granted" {
			m.element(`, ended by `, r.Outcome, ``)
		}
		m.element(`, seen `, r.Ended.Format("15:04:05"), `</span> `)
		m.where(&r.Hold)
		m.put(`</span></li>`)
	}
	m.put(`</ol></section>`)
}
