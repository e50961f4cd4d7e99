package lockpage

import (
	"strconv"
	"time"
)

// figures are the first things that one looks for.
func (m *markup) figures(v *DatabaseView, _ string) {
	m.put(`<p class="unseen" data-say="`)
	m.text(v.Name + ": " + v.say())
	m.put(`"></p>`)
	if v.Error != "" {
		m.put(`<p class="trouble"><b>Nothing can be seen of this handle:</b> `)
		m.text(v.Error)
		m.put(`</p>`)
	}
	if v.late > 0 {
		m.element(`<p class="trouble">The handle has not answered for `, inWords(v.late), `, perhaps because its database does not. What follows is as old.</p>`)
	}
	if v.Statistics == nil {
		return
	}
	var sum second
	for _, s := range v.history {
		sum.add(s)
	}
	st := v.Statistics
	var waiting, held fixed // nobody is to worry about what nobody waits for
	if v.graph.waiting > 0 {
		waiting, held = patience(v.longest.wait), patience(v.longest.hold)
	}
	m.put(`<dl class="figures">`)
	m.figure("Waiting now", waiting, thousands(int64(v.graph.waiting)), "longest "+inWords(v.longest.wait), v.graph.waiting > 0)
	m.figure("Users' locks held", held, thousands(int64(v.Held)), "longest "+inWords(v.longest.hold), v.longest.hold > 0)
	m.figure("Waits, last 5 min", "", thousands(sum.waits), "on average "+inWords(sum.mean()), sum.waits > 0)
	timeouts := st.Locks.Timeouts + st.Connections.Timeouts + st.Processes.Timeouts
	m.figure("Timeouts", bad(sum.timeouts > 0), thousands(timeouts), thousands(sum.timeouts)+" in 5 min", timeouts > 0)
	deadlocks := st.Locks.Deadlocks + st.Connections.Deadlocks + st.Processes.Deadlocks
	m.figure("Deadlocks", bad(sum.deadlocks > 0), thousands(deadlocks), thousands(sum.deadlocks)+" in 5 min", deadlocks > 0)
	m.put(`</dl>`)
}

func bad(is bool) fixed {
	if is {
		return "bad"
	}
	return ""
}

func (m *markup) figure(name fixed, class fixed, value, more string, hasMore bool) {
	m.put(`<div class="figure `, class, `"><dt>`, name, `</dt><dd><b>`)
	m.text(value)
	m.put(`</b>`)
	if hasMore {
		m.element(` <small>`, more, `</small>`)
	}
	m.put(`</dd></div>`)
}

// say is what a screen reader says when it changes. It has no figures that change all the time.
func (v *DatabaseView) say() string {
	switch {
	case v.Error != "":
		return "nothing can be seen"
	case v.graph.waiting == 0:
		return "nobody waits"
	case v.longest.wait >= 5*time.Second:
		return "some wait for more than 5 seconds"
	}
	return "some wait"
}

// whoWaits is the picture.
func (m *markup) whoWaits(v *DatabaseView, id string) {
	if v.Statistics == nil {
		return
	}
	m.put(`<section class="panel"><h3>Who waits for whom</h3>`)
	if len(v.graph.roots) == 0 || v.graph.waiting == 0 {
		m.put(`<p class="empty"><span class="tick" aria-hidden="true">✓</span> Nobody waits.`)
		if v.longest.hold > 0 {
			m.element(` The oldest lock has been held for `, inWords(v.longest.hold), `.`)
		}
		m.put(`</p></section>`)
		return
	}
	m.put(`<p class="note">An arrow leads from who waits to who is in the way.`)
	if v.graph.missing > 0 {
		m.element(` <b>`, thousands(int64(v.graph.missing)), ` more wait</b> than are drawn here.`)
	}
	m.put(`</p><div class="scroll" tabindex="0" role="region" aria-label="Picture of who waits for whom">`)
	m.svg(&v.graph, across, id)
	m.svg(&v.graph, down, id+"-down")
	m.put(`</div></section>`)
}

// list is the table beside the picture.
func (m *markup) list(v *DatabaseView, id string) {
	if v.Statistics == nil || len(v.Holds) == 0 {
		return
	}
	m.put(`<section class="panel"><h3>Holds and waits, the oldest first</h3><div class="scroll" tabindex="0" role="region" aria-label="Table of holds and waits"><table class="holds"><thead><tr><th scope="col">State<th scope="col">Of<th scope="col">Mode<th scope="col">Kind<th scope="col">Tag and place<th scope="col" class="number">For<th scope="col">Queue</tr></thead><tbody>`)
	for i := range v.Holds {
		m.row(&v.Holds[i])
	}
	m.put(`</tbody></table></div>`)
	if v.More+v.MoreWaiting > 0 {
		m.put(`<p class="note">`)
		m.element(`And `, thousands(int64(v.More)), ` more holds, `)
		m.element(``, thousands(int64(v.MoreWaiting)), ` more waits.</p>`)
	}
	m.put(`</section>`)
}

func (m *markup) row(h *Hold) {
	state, class := fixed("holds"), fixed("holds ")
	if h.Waiting {
		state, class = "waits", "waits "
	}
	m.put(`<tr class="`, class, patience(h.lasts), `"><td data-name="State"><span class="badge">`, state, `</span></td><th scope="row" data-name="Of">`)
	m.text(fitting(h.title(), 60))
	m.put(`</th>`)
	m.cell("Mode", h.Mode)
	m.cell("Kind", h.Kind)
	m.put(`<td data-name="Tag and place">`)
	m.where(h)
	m.put(`</td><td class="number" data-name="For">`)
	if h.lasts > 0 {
		m.text(inWords(h.lasts))
	} else {
		m.put(`<span class="muted" title="Nobody has had to wait for it.">new</span>`)
	}
	m.put(`</td><td data-name="Queue">`)
	switch {
	case h.Blocked > 0:
		m.element(`<code>`, requestName(h.Request), `</code> · `)
		m.element(``, thousands(int64(h.Blocked)), ` behind it`)
	case h.BlockedBy != 0:
		m.element(`behind <code>`, requestName(h.BlockedBy), `</code>`)
	}
	m.put(`</td></tr>`)
}

// requestName is a short name for a request's number, which need only differ from those beside it.
func requestName(n uint64) string {
	if n == 0 {
		return "this one"
	}
	return strconv.FormatUint(n>>1%(36*36*36*36), 36)
}

func (m *markup) cell(name fixed, text string) {
	m.put(`<td data-name="`, name, `">`)
	m.text(text)
	m.put(`</td>`)
}

// where writes by what the programmer finds the code.
func (m *markup) where(h *Hold) {
	if h.Process != nil {
		m.text(fitting(h.Process.String(), 90))
		m.put(" ")
	}
	if h.Tag != "" {
		m.put(`<span class="tag"`)
		m.attr("title", limited(h.Tag, 300))
		m.put(">")
		m.text(fitting(h.Tag, 60))
		m.put(`</span> `)
	}
	if h.Place != "" {
		m.put(`<code class="place"`)
		m.attr("title", h.Place)
		m.put(">")
		m.text(fitting(shortPlace(h.Place), 50))
		m.put(`</code>`)
	}
}
