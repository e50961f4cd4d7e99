package gate

import (
	"slices"
	"sync"
)

// A Visitor is a handle on the file: it has connections of its own there.
type Visitor interface {
	// Rest ends the reads that it keeps open though the program has none.
	Rest()

	// CloseIdle closes the connections that nobody uses, and returns how many are left.
	CloseIdle() (left int)
}

// visitors are those of a file, the oldest first.
type visitors struct {
	mu   sync.Mutex // guards list
	list []Visitor
}

// Register adds a visitor, until it is removed.
func (g *Gate) Register(v Visitor) (remove func()) {
	at := &g.visitors
	at.mu.Lock()
	defer at.mu.Unlock()
	at.list = append(at.list, v)
	return func() { at.remove(v) }
}

// remove removes v once: a handle may be a visitor more than once.
func (at *visitors) remove(v Visitor) {
	at.mu.Lock()
	defer at.mu.Unlock()
	if i := slices.Index(at.list, v); i >= 0 {
		at.list = slices.Delete(at.list, i, i+1)
	}
}

func (at *visitors) all() []Visitor {
	at.mu.Lock()
	defer at.mu.Unlock()
	return slices.Clone(at.list)
}

// Rest has all visitors end the reads that they keep open though the program has none.
func (g *Gate) Rest() {
	for _, v := range g.visitors.all() {
		v.Rest()
	}
}

// CloseIdle has all visitors close the connections that nobody uses. It returns how many are left.
func (g *Gate) CloseIdle() (left int) {
	for _, v := range g.visitors.all() {
		left += v.CloseIdle()
	}
	return left
}
