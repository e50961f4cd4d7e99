package lockpage

import (
	"math"
	"time"
)

const (
	barSeconds = 5
	bars       = span / barSeconds
	barWidth   = 5
	chartHigh  = 60
)

// charts show how many waits there were in the last minutes, and how long they were.
func (m *markup) charts(v *DatabaseView, id string) {
	if v.Statistics == nil {
		return
	}
	all := sums(v.history, barSeconds)
	m.put(`<section class="panel"><h3>Waits in the last five minutes</h3>`)
	if !v.observed {
		m.put(`<p class="note">Counted while this page is open. With <code>Page.Observe</code> it knows them from the beginning, and the longest of them.</p>`)
	}
	m.put(`<div class="charts">`)
	m.counts(all)
	m.lengths(all)
	m.put(`</div><details`)
	m.attr("id", id+"-table")
	m.put(`><summary>As a table</summary><div class="scroll" tabindex="0" role="region" aria-label="Table of waits by minute"><table><thead><tr><th scope="col">Minute from<th scope="col" class="number">Waits<th scope="col" class="number">Timeouts<th scope="col" class="number">Deadlocks<th scope="col" class="number">On average<th scope="col" class="number">Longest</tr></thead><tbody>`)
	for _, s := range sums(v.history, 60) {
		m.element(`<tr><th scope="row">`, time.Unix(s.at, 0).Format("15:04:05"), `</th>`)
		for _, text := range []string{thousands(s.waits), thousands(s.timeouts), thousands(s.deadlocks), orNone(s.mean()), orNone(s.longest)} {
			m.element(`<td class="number">`, text, `</td>`)
		}
		m.put(`</tr>`)
	}
	m.put(`</tbody></table></div></details></section>`)
}

func orNone(d time.Duration) string {
	if d == 0 {
		return "–"
	}
	return inWords(d)
}

// counts draws how many waits ended, and in red how many in vain.
func (m *markup) counts(all []second) {
	most, sum := int64(1), second{}
	for _, s := range all {
		most = max(most, s.waits)
		sum.add(s)
	}
	m.put(`<figure><figcaption>Waits that ended, every 5 s; <span class="key bad">in vain</span></figcaption>`)
	m.begin("Bars of the number of waits: "+thousands(sum.waits)+" in five minutes, of these "+thousands(sum.timeouts)+" timeouts and "+thousands(sum.deadlocks)+" deadlocks.",
		thousands(most), "0")
	for i, s := range all {
		high := float64(s.waits) / float64(most) * chartHigh
		vain := float64(s.timeouts+s.deadlocks) / float64(most) * chartHigh
		m.bar("bar", i, high)
		m.bar("bar vain", i, vain)
	}
	m.end()
}

// The lengths are drawn by their logarithms, from shortest up.
const (
	shortest = 100 * time.Microsecond
	decades  = 6
)

// lengths draws how long the waits were: on average, and the longest.
func (m *markup) lengths(all []second) {
	sum := second{}
	for _, s := range all {
		sum.add(s)
	}
	text := "Bars of the lengths of waits: on average " + inWords(sum.mean())
	if sum.longest > 0 {
		text += ", the longest " + inWords(sum.longest)
	}
	m.put(`<figure><figcaption>Their lengths: <span class="key">on average</span>, <span class="key pale">the longest</span></figcaption>`)
	m.begin(text+".", "100 s", "100 ms", "0.1 ms")
	for i := 1; i < decades; i++ {
		y := chartHigh * float64(i) / decades
		m.put(`<path class="grid" d="M0 `)
		m.length(y)
		m.numbers("H", bars*barWidth)
		m.put(`"/>`)
	}
	for i, s := range all {
		m.bar("bar pale", i, byLogarithm(s.longest))
		m.bar("bar", i, byLogarithm(s.mean()))
	}
	m.end()
}

func byLogarithm(d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return min(max(math.Log10(float64(d)/float64(shortest))/decades*chartHigh, 1), chartHigh)
}

// begin begins a chart, whose labels stand beside it, so that they keep their size.
func (m *markup) begin(text string, labels ...string) {
	m.put(`<div class="chart"><div class="scale" aria-hidden="true">`)
	for _, l := range labels {
		m.element(`<span>`, l, `</span>`)
	}
	m.put(`</div><svg class="bars" role="img" preserveAspectRatio="none"`)
	m.attr("aria-label", text)
	m.put(` viewBox="0 0 `)
	m.length(bars * barWidth)
	m.put(` `)
	m.length(chartHigh)
	m.put(`">`)
}

func (m *markup) end() {
	m.put(`</svg><div class="axis" aria-hidden="true"><span>5 min ago</span><span>now</span></div></div></figure>`)
}

// bar draws a bar of a chart. One that is there is seen.
func (m *markup) bar(class fixed, i int, high float64) {
	if high <= 0 {
		return
	}
	high = math.Round(max(high, 1.5)*10) / 10
	m.put(`<rect class="`, class, `"`)
	m.at("x", i*barWidth)
	m.at("width", barWidth-1)
	m.put(` y="`)
	m.length(math.Round((chartHigh-high)*10) / 10)
	m.put(`" height="`)
	m.length(high)
	m.put(`"/>`)
}
