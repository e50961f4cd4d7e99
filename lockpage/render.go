package lockpage

import (
	"embed"
	"net/http"
	"strconv"
	"strings"
)

//go:embed assets
var assets embed.FS

func serveAsset(w http.ResponseWriter, r *http.Request, name string) {
	content, err := assets.ReadFile("assets/" + name)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	kind := "text/css; charset=utf-8"
	if strings.HasSuffix(name, ".js") {
		kind = "text/javascript; charset=utf-8"
	}
	w.Header().Set("Content-Type", kind)
	w.Write(content)
}

// renderPage draws the whole page. It is read without its script too: then it asks for itself every two seconds, unless it is
// to stand still.
func renderPage(v *View, still bool) []byte {
	m := new(markup)
	m.put(`<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">`,
		`<meta name="color-scheme" content="light dark"><title>dblocker · `)
	m.text(v.Program)
	m.put(`</title><link rel="icon" href="data:,"><link rel="stylesheet" href="?file=page.css"><script src="?file=page.js" defer></script>`)
	if !still {
		m.put(`<noscript><meta http-equiv="refresh" content="2"></noscript>`)
	}
	m.put(`</head><body><a class="skip" href="#main">Skip to the databases</a><header><h1>dblocker</h1><p class="program">`)
	m.text(v.Program)
	m.put(` <span>pid `)
	m.text(strconv.Itoa(v.PID))
	m.put(`</span></p><p class="live"><span id="state">as of</span> <time id="time">`)
	m.text(v.Time.Format("15:04:05"))
	m.put(`</time></p><button type="button" id="pause" hidden>Pause</button>`)
	if still {
		m.put(`<noscript><a class="button" href="?">Refresh every 2 s</a></noscript>`)
	} else {
		m.put(`<noscript><a class="button" href="?still">Stand still</a></noscript>`)
	}
	m.put(`<p id="say" class="unseen" role="status"></p></header><div class="part" id="summary">`)
	parts := drawParts(v)
	m.WriteString(parts[0].html)
	m.put(`</div><main id="main">`)
	at := 1
	for i := range v.Databases {
		m.put(`<section class="database"`)
		m.attr("id", databaseID(i))
		m.attr("aria-labelledby", databaseID(i)+"-name")
		m.put(`><h2`)
		m.attr("id", databaseID(i)+"-name")
		m.element(">", v.Databases[i].Name, "</h2>")
		for range len(panels) {
			m.put(`<div class="part"`)
			m.attr("id", parts[at].id)
			m.put(">")
			m.WriteString(parts[at].html)
			m.put("</div>")
			at++
		}
		m.put("</section>")
	}
	m.put(`</main></body></html>`)
	return []byte(m.String())
}

func databaseID(i int) string { return "d" + strconv.Itoa(i) }

// panels are what is shown of each database.
var panels = []struct {
	name string
	draw func(m *markup, v *DatabaseView, id string)
}{
	{"figures", (*markup).figures},
	{"waits", (*markup).whoWaits},
	{"list", (*markup).list},
	{"charts", (*markup).charts},
	{"engine", (*markup).engine},
	{"records", (*markup).records},
}

// drawParts draws all parts: the summary, then the panels of each database.
func drawParts(v *View) []part {
	m := new(markup)
	m.summary(v)
	parts := []part{{id: "summary", html: m.String()}}
	for i := range v.Databases {
		for _, panel := range panels {
			m := new(markup)
			id := databaseID(i) + "-" + panel.name
			panel.draw(m, &v.Databases[i], id)
			parts = append(parts, part{id: id, html: m.String()})
		}
	}
	return parts
}

// summary leads to the databases, where there are several, and says how they are.
func (m *markup) summary(v *View) {
	if len(v.Databases) == 0 {
		m.put(`<p class="empty">No database is on this page yet. A program adds one by <code>Page.Add</code>.</p>`)
		return
	}
	if len(v.Databases) < 2 {
		return
	}
	m.put(`<nav aria-label="Databases"><ul class="chips">`)
	for i := range v.Databases {
		d := &v.Databases[i]
		m.put(`<li><a class="chip `, d.class(), `"`)
		m.attr("href", "#"+databaseID(i))
		m.put(`><b>`)
		m.text(fitting(d.Name, 30))
		m.put(`</b> `)
		m.text(d.inWords())
		m.put(`</a></li>`)
	}
	m.put(`</ul></nav>`)
}

// class is how badly one waits.
func (v *DatabaseView) class() fixed {
	switch {
	case v.Error != "":
		return "bad"
	case v.Waiting+v.slots.waiting+v.gate.waiting == 0:
		return "calm"
	}
	return patience(v.longest.wait)
}

func (v *DatabaseView) inWords() string {
	switch n := v.graph.waiting; {
	case v.Error != "":
		return "not to be seen"
	case n == 0:
		return "nobody waits"
	case n == 1:
		return "one waits, " + inWords(v.longest.wait)
	default:
		return thousands(int64(n)) + " wait, " + inWords(v.longest.wait)
	}
}
