package lockpage

import (
	"cmp"
	"slices"
	"time"

	"github.com/calmdocs/dblocker"
)

// A graph is who waits for whom: trees, with those who wait for nobody at their roots. Who waits for several is in the tree of
// one of them, and a circle, which lasts no longer than it takes to look, is cut open.
type graph struct {
	roots   []*node
	waiting int // all that wait
	missing int // of them, those that are not drawn
}

// A node is a request, or what belongs to none: with what it has that others wait for, and what it waits for.
type node struct {
	hold, wait *dblocker.HoldInfo // one of them at least
	other      *dblocker.HoldInfo // what it waits for besides
	user       *dblocker.HoldInfo // its user's lock, which it has or waits for
	beside     int                // how many others have what it has too: readers
	waiters    []*node
	blocks     int // how many there are in its tree below it
	hidden     int // of those, the ones that are below none that is drawn
	inTree     bool
	waitsFor   *node

	has, wants, of Hold // what is drawn of hold, wait and user
}

// A thing is what can be waited for: a user's lock, that of all users, the gate of a file, connections, places for databases.
type thing struct{ what, of string }

func thingOf(h *dblocker.HoldInfo) thing {
	switch h.What {
	case "lock", "process":
		return thing{h.What, h.User}
	case "gate": // where users have a file each, one each
		return thing{h.What, h.Database}
	}
	return thing{what: h.What} // one is as good as another
}

// What is drawn at most; all else is counted.
const (
	mostRoots   = 10
	mostWaiters = 6  // of one node
	mostRows    = 36 // of all
	deepest     = 5  // one behind the other
)

// A linking finds out who waits for whom.
type linking struct {
	nodes   []*node
	known   map[uint64]*node               // by request
	nobodys map[*dblocker.HoldInfo]*node   // what belongs to no request
	holders map[thing][]*dblocker.HoldInfo // of what is waited for
}

// link links holds, which are in the order of their age.
func link(holds []dblocker.HoldInfo) *linking {
	l := &linking{known: make(map[uint64]*node), nobodys: make(map[*dblocker.HoldInfo]*node), holders: make(map[thing][]*dblocker.HoldInfo)}
	for i := range holds {
		if h := &holds[i]; h.Waiting {
			l.holders[thingOf(h)] = nil
		}
	}
	if len(l.holders) == 0 {
		return l
	}
	for i := range holds {
		if h := &holds[i]; !h.Waiting {
			if has, awaited := l.holders[thingOf(h)]; awaited {
				l.holders[thingOf(h)] = append(has, h)
			}
		}
	}
	for i := range holds {
		if h := &holds[i]; h.Waiting {
			if n := l.of(h); n.wait == nil {
				n.wait = h
			} else {
				n.other = h
			}
		}
	}
	for _, n := range slices.Clone(l.nodes) {
		if !l.linkUp(n) && n.other != nil { // the user's lock may be free, and the gate not
			if n.wait, n.other = n.other, n.wait; !l.linkUp(n) {
				n.wait, n.other = n.other, n.wait
			}
		}
	}
	for i := range holds {
		if h := &holds[i]; h.What == "lock" && h.Request != 0 {
			if n := l.known[h.Request]; n != nil && (n.user == nil || n.user.User == "") {
				n.user = h
			}
		}
	}
	return l
}

// of returns the node of a hold. What belongs to no request has one of its own.
func (l *linking) of(h *dblocker.HoldInfo) *node {
	n := l.known[h.Request]
	if h.Request == 0 {
		n = l.nobodys[h]
	}
	if n != nil {
		return n
	}
	n = new(node)
	l.nodes = append(l.nodes, n)
	if h.Request == 0 {
		l.nobodys[h] = n
	} else {
		l.known[h.Request] = n
	}
	return n
}

// linkUp finds whom a node waits for: of those who have the thing, the oldest that is not the node itself.
func (l *linking) linkUp(n *node) (found bool) {
	has := l.holders[thingOf(n.wait)]
	for _, h := range has {
		by := l.of(h)
		if by == n {
			continue
		}
		if by.hold == nil {
			by.hold, by.beside = h, len(has)-1
		}
		n.waitsFor = by
		by.waiters = append(by.waiters, n)
		return true
	}
	return false
}

// lasts is how long a node has been in the way, or has waited.
func (n *node) lasts() time.Duration {
	if n.hold != nil {
		return n.hold.For
	}
	return n.wait.For
}

// draw returns what is to be drawn of the nodes: the trees in which most wait.
func draw(nodes []*node) graph {
	var g graph
	for _, n := range nodes {
		if n.wait != nil {
			g.waiting++
		}
	}
	for _, n := range nodes {
		if n.waitsFor == nil {
			n.grow()
			g.roots = append(g.roots, n)
		}
	}
	for _, n := range nodes { // what remains is in circles
		if !n.inTree {
			n.grow()
			g.roots = append(g.roots, n)
		}
	}
	slices.SortStableFunc(g.roots, func(a, b *node) int {
		return cmp.Or(cmp.Compare(b.blocks, a.blocks), cmp.Compare(b.lasts(), a.lasts()))
	})
	rows := mostRows
	for i, n := range g.roots {
		if i == mostRoots || rows <= 0 {
			g.roots = g.roots[:i]
			break
		}
		n.prune(&rows)
	}
	g.missing = g.waiting - g.drawn()
	return g
}

// grow counts who is below a node, each once. It goes down without recursion, as chains may be long.
func (n *node) grow() {
	n.inTree = true
	path := []*node{n}
	for i := 0; i < len(path); i++ {
		at := path[i]
		kept := at.waiters[:0]
		for _, w := range at.waiters {
			if !w.inTree {
				w.inTree = true
				kept = append(kept, w)
				path = append(path, w)
			}
		}
		at.waiters = kept
	}
	for _, below := range slices.Backward(path) {
		below.blocks = len(below.waiters)
		for _, w := range below.waiters {
			below.blocks += w.blocks
		}
	}
}

// prune leaves what is drawn: the waiters on whom most wait, and the oldest.
func (n *node) prune(rows *int) { n.pruneAt(rows, 0) }

func (n *node) pruneAt(rows *int, depth int) {
	slices.SortStableFunc(n.waiters, func(a, b *node) int {
		return cmp.Or(cmp.Compare(b.blocks, a.blocks), cmp.Compare(b.lasts(), a.lasts()))
	})
	*rows--
	keep := min(len(n.waiters), mostWaiters, max(*rows, 0))
	if depth == deepest {
		keep = 0
	}
	n.hidden = n.blocks
	clear(n.waiters[keep:])
	n.waiters = n.waiters[:keep]
	for _, w := range n.waiters {
		n.hidden -= w.blocks + 1
		w.pruneAt(rows, depth+1)
	}
}

// drawn counts the waits that are.
func (g *graph) drawn() (n int) {
	for _, r := range g.roots {
		n += r.drawn()
	}
	return n
}

func (n *node) drawn() (sum int) {
	if n.wait != nil {
		sum++
	}
	for _, w := range n.waiters {
		sum += w.drawn()
	}
	return sum
}

// describe puts what is drawn into words, and forgets the holds.
func (g *graph) describe(p *Page) {
	for _, n := range g.roots {
		n.describe(p)
	}
}

func (n *node) describe(p *Page) {
	if n.hold != nil {
		n.has = p.take(*n.hold)
	}
	if n.wait != nil {
		n.wants = p.take(*n.wait)
	}
	if n.user != nil {
		n.of = p.take(*n.user)
	}
	n.hold, n.wait, n.other, n.user, n.waitsFor = nil, nil, nil, nil, nil
	for _, w := range n.waiters {
		w.describe(p)
	}
}
