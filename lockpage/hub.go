package lockpage

import (
	"sync"
	"time"
)

// A hub looks at the databases for all who have the page open: once for all, and only while there are any.
//
// Its goroutine runs from the first join to the last leave. frame is the newest picture, and is never changed once it is there;
// next is closed when there is a newer one.
type hub struct {
	mu      sync.Mutex // guards what follows
	viewers int
	stop    chan struct{} // of the goroutine; nil if there is none
	frame   *frame
	next    chan struct{}
	streams int // of one server or another, to bound them
}

// join begins to watch. The caller must leave.
func (h *hub) join(p *Page) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.next == nil {
		h.next = make(chan struct{})
	}
	if h.viewers++; h.viewers == 1 {
		h.stop = make(chan struct{})
		go h.run(p, h.stop)
	}
}

func (h *hub) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.viewers--; h.viewers == 0 {
		close(h.stop)
		h.stop = nil
	}
}

// newest returns the newest frame, and what is closed when there is a newer one.
func (h *hub) newest() (*frame, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.frame, h.next
}

// run makes frames until stop is closed.
func (h *hub) run(p *Page, stop chan struct{}) {
	tick := time.NewTicker(often)
	defer tick.Stop()
	for {
		h.publish(p)
		select {
		case <-tick.C:
		case <-stop:
			return
		}
	}
}

// publish makes one frame. A fault of the page is not the program's: without one, the last stays.
func (h *hub) publish(p *Page) {
	defer func() { _ = recover() }()
	p.look()
	h.mu.Lock()
	last := h.frame
	h.mu.Unlock()
	f := newFrame(p.view(), last)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.frame = f
	close(h.next)
	h.next = make(chan struct{})
}
