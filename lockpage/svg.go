package lockpage

import "time"

// The picture of who waits for whom: columns from left to right, who is in the way of whom to the left of them.
const (
	boxWidth  = 264
	boxHeight = 66
	stubWidth = 168 // says how many are not drawn
	stubHigh  = 28
	gapAcross = 56
	gapDown   = 12
	margin    = 2
	textLeft  = 15 // of a box
	textRight = 12
	textWidth = boxWidth - textLeft - textRight

	// Sizes of bold letters that are as wide as those of the lines of a box.
	whoSize   = 14 // 13.5 bold
	ageSize   = 12 // bold
	howSize   = 11 // 12 regular
	whereMost = 34 // letters of one width, 11.5
)

// A placed node is drawn at x and y.
type placed struct {
	*node
	x, y   int
	stubY  int // of those that are not drawn; 0 if there are none
	below  []*placed
	bottom int
}

// A layout is how the picture goes: across, where there is room, or down, where there is none.
type layout bool

const (
	across layout = true
	down   layout = false

	indent = 26 // of who waits, in a picture that goes down
)

// arrange gives a node and all that wait for it their places, from y on downwards.
func (l layout) arrange(n *node, depth, y int) *placed {
	p := &placed{node: n, x: margin + l.step(depth), y: y}
	next := y
	if l == down {
		next += boxHeight + gapDown
	}
	for _, w := range n.waiters {
		b := l.arrange(w, depth+1, next)
		p.below = append(p.below, b)
		next = b.bottom
	}
	if n.hidden > 0 {
		p.stubY = next
		next += stubHigh + gapDown
	}
	if middle := (y + next - gapDown - boxHeight) / 2; l == across && middle > y {
		p.y = middle
	}
	p.bottom = max(next, p.y+boxHeight+gapDown)
	return p
}

func (l layout) step(depth int) int {
	if l == down {
		return depth * indent
	}
	return depth * (boxWidth + gapAcross)
}

// right returns how far to the right a place and those below reach.
func (l layout) right(p *placed) int {
	right := p.x + boxWidth
	if p.stubY > 0 {
		right = max(right, p.x+l.step(1)+stubWidth)
	}
	for _, b := range p.below {
		right = max(right, l.right(b))
	}
	return right
}

// svg draws the graph.
func (m *markup) svg(g *graph, l layout, id string) {
	var trees []*placed
	width, y := 0, margin
	for _, r := range g.roots {
		t := l.arrange(r, 0, y)
		trees = append(trees, t)
		width, y = max(width, l.right(t)), t.bottom+gapDown
	}
	width, y = width+margin, y-2*gapDown+margin
	m.put(`<svg class="graph `, l.class(), `" role="img"`)
	m.attr("aria-label", g.inWords())
	m.at("width", width)
	m.at("height", y)
	m.put(">")
	m.put(`<defs><marker`)
	m.attr("id", id+"-arrow")
	m.put(` viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path class="head" d="M0 0.5 8 4 0 7.5z"/></marker></defs>`)
	for _, t := range trees {
		m.edges(t, l, id)
	}
	for _, t := range trees {
		m.boxes(t, l)
	}
	m.put("</svg>")
}

// inWords says what the picture shows; the table has the details.
func (g *graph) inWords() string {
	text := thousands(int64(g.waiting)) + " wait. "
	for i, r := range g.roots {
		if i == 3 || r.has.What == "" {
			break
		}
		text += r.has.title() + " has been held for " + inWords(r.has.lasts) + ", and " + thousands(int64(r.blocks)) + " wait behind it. "
	}
	return text + "The table that follows has each of them."
}

func (l layout) class() fixed {
	if l == down {
		return "down"
	}
	return "across"
}

func (m *markup) edges(p *placed, l layout, id string) {
	for _, b := range p.below {
		m.edge(p, l, b.x, b.y+boxHeight/2, id, "edge")
		m.edges(b, l, id)
	}
	if p.stubY > 0 {
		m.edge(p, l, p.x+l.step(1), p.stubY+stubHigh/2, id, "edge dashed")
	}
}

// edge draws an arrow from who waits to the one in the way.
func (m *markup) edge(to *placed, l layout, x, y int, id string, class fixed) {
	m.put(`<path class="`, class, `" d="`)
	m.numbers("M", x, y)
	if l == down {
		m.numbers("H", to.x+indent/2)
		m.numbers("V", to.y+boxHeight+2)
	} else {
		endX, endY := to.x+boxWidth+2, to.y+boxHeight/2
		m.numbers("C", x-gapAcross/2, y, x-gapAcross/2, endY, endX, endY)
	}
	m.put(`" marker-end="url(#`)
	m.text(id)
	m.put(`-arrow)"/>`)
}

func (m *markup) numbers(command fixed, all ...int) {
	m.put(command)
	for i, n := range all {
		if i > 0 {
			m.put(" ")
		}
		m.length(float64(n))
	}
}

func (m *markup) boxes(p *placed, l layout) {
	m.box(p)
	for _, b := range p.below {
		m.boxes(b, l)
	}
	if p.stubY > 0 {
		x := p.x + l.step(1)
		m.put(`<g class="stub"><rect rx="6"`)
		m.at("x", x)
		m.at("y", p.stubY)
		m.at("width", stubWidth)
		m.at("height", stubHigh)
		m.put(`/><text`)
		m.at("x", x+12)
		m.at("y", p.stubY+18)
		m.element(">", thousands(int64(p.hidden)), " more behind</text></g>")
	}
}

// box draws a node in a picture of its own, which cuts off what is too large.
func (m *markup) box(p *placed) {
	h, did := p.has, "held "
	if p.wants.What != "" {
		h, did = p.wants, "waits "
	}
	m.put(`<svg class="box `, p.class(), `"`)
	m.at("x", p.x)
	m.at("y", p.y)
	m.at("width", boxWidth)
	m.at("height", boxHeight)
	m.put(`><title>`)
	m.text(p.story())
	m.put(`</title><rect class="card" x="0.5" y="0.5" rx="7"`)
	m.at("width", boxWidth-1)
	m.at("height", boxHeight-1)
	m.put(`/><rect class="mark" x="0.5" y="8" width="4"`)
	m.at("height", boxHeight-16)
	m.put(`/>`)
	age := did + inWords(h.lasts)
	m.line("who", 22, within(p.who(h), textWidth-8-pixels(age, ageSize), whoSize), textWidth-4-pixels(age, ageSize))
	m.line("how", 39, within(p.how(h), textWidth, howSize), textWidth)
	m.line("where", 55, fitting(p.where(h), whereMost), textWidth)
	m.put(`<text class="age" text-anchor="end" y="22"`)
	m.at("x", boxWidth-textRight)
	m.element(">", age, "</text></svg>")
}

// line writes a line of a box in a picture of its own: what is wider in the font of the reader is cut off, and covers nothing.
func (m *markup) line(class fixed, y int, text string, width int) {
	m.put(`<svg`)
	m.at("x", textLeft)
	m.at("width", width)
	m.at("height", boxHeight)
	m.put(`><text class="`, class, `"`)
	m.at("y", y)
	m.element(">", text, "</text></svg>")
}

// who names a node by its user.
func (n *node) who(h Hold) string {
	if n.of.What != "" && h.What != "lock" {
		h = n.of
	}
	return h.title()
}

// how says what a node does, and what it has that others wait for, or what it waits for, if that is not its user's lock.
func (n *node) how(h Hold) string {
	how := h.Mode + " " + h.Kind
	switch {
	case n.wants.What != "" && n.has.What != "":
		how += " · has " + n.has.title()
	case n.wants.What != "" && h.What != "lock":
		how += " · at " + h.title()
	case h.What != "lock" && n.of.What != "":
		how += " · has " + h.title()
	}
	switch {
	case n.beside == 1:
		how += " · and 1 other"
	case n.beside > 1:
		how += " · and " + thousands(int64(n.beside)) + " others"
	}
	return how
}

// where is by what the programmer knows it.
func (n *node) where(h Hold) string {
	if h.Tag == "" && h.Place == "" && n.has.What != "" {
		h = n.has
	}
	switch {
	case h.Process != nil:
		return h.Process.String()
	case h.Tag != "":
		return h.Tag
	}
	return shortPlace(h.Place)
}

// story has all that is known of a node, for who points at it.
func (n *node) story() (text string) {
	for _, h := range []Hold{n.wants, n.has} {
		if h.What == "" {
			continue
		}
		did := "holds "
		if h.Waiting {
			did = "waits for "
		}
		text += did + h.title() + " (" + h.Mode + "), " + h.Kind + ", " + inWords(h.lasts)
		for _, more := range []string{h.Tag, h.Place} {
			if more != "" {
				text += ", " + more
			}
		}
		text += "\n"
	}
	return text
}

// class is how much a node is in the way.
func (n *node) class() fixed {
	if n.wants.What != "" {
		return "waits " + patience(n.wants.lasts)
	}
	return "holds " + patience(n.has.lasts)
}

func patience(d time.Duration) fixed {
	switch {
	case d >= 5*time.Second:
		return "bad"
	case d >= time.Second:
		return "slow"
	}
	return "fine"
}

// title names the thing that somebody has or waits for.
func (h *Hold) title() string {
	switch {
	case h.AllUsers:
		return "all users"
	case h.What == "lock":
		return "user " + h.User
	case h.What == "process" && h.User == "":
		return "all users among processes"
	case h.What == "process":
		return "user " + h.User + " among processes"
	case h.What == "connection":
		return "a connection"
	case h.What == "database":
		return "a place for user " + h.User
	case h.User != "":
		return "the " + h.What + " of user " + h.User
	}
	return "the " + h.What
}
