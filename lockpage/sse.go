package lockpage

import (
	"errors"
	"net/http"
	"runtime"
	"sync"
	"time"
	"weak"
)

const (
	mostStreams = 100              // at once
	writeLimit  = 5 * time.Second  // for one frame: who does not read it in that time is given up
	streamLimit = 30 * time.Minute // then the browser asks again
	quietAtMost = 5 * time.Second  // without a sign of life, for which page.js waits a little more than twice as long

)

// serveEvents sends what changes on the page, until the client leaves, does not read, or the server shuts down.
func (p *Page) serveEvents(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	if r.Method == http.MethodHead {
		return
	}
	if !p.hub.enter(p) {
		w.Header().Set("Retry-After", "5")
		http.Error(w, "dblocker: too many have this page open.", http.StatusServiceUnavailable)
		return
	}
	defer p.hub.exit()
	s := &stream{w: w, control: http.NewResponseController(w), single: r.URL.Query().Has("single")}
	defer s.control.SetWriteDeadline(time.Time{}) // else it would be that of the connection's next request
	s.run(p, r)
}

// enter is join for a stream, of which there are not too many.
func (h *hub) enter(p *Page) bool {
	h.mu.Lock()
	if h.streams >= mostStreams {
		h.mu.Unlock()
		return false
	}
	h.streams++
	h.mu.Unlock()
	h.join(p)
	return true
}

func (h *hub) exit() {
	h.leave()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.streams--
}

// A stream is one client's.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	seen    *frame // that the client has
	single  bool   // is the answer that the client wants
}

// run sends frames. Where the server's writer is behind one that neither flushes nor takes a deadline, or the client wants it so, it sends one
// frame and ends: the browser asks again after a second.
func (s *stream) run(p *Page, r *http.Request) {
	begin := time.Now()
	f, next := p.hub.newest()
	quiet := time.NewTicker(quietAtMost)
	defer quiet.Stop()
	shut := p.shutdownOf(r)
	if f == nil || time.Since(f.time) > often {
		f = nil // the first of a hub that has just begun comes soon
	}
	for {
		if f != nil && f != s.seen {
			if again, err := s.send(f); err != nil || !again {
				return
			}
		}
		select {
		case <-next:
			f, next = p.hub.newest()
		case <-quiet.C:
			if s.write([]byte("event: alive\ndata:\n\n")) != nil || time.Since(begin) > streamLimit {
				return
			}
		case <-shut:
			s.write([]byte("event: bye\ndata:\n\n"))
			return
		case <-r.Context().Done():
			return
		}
	}
}

// send sends what the client does not have of a frame. It reports whether more may follow.
func (s *stream) send(f *frame) (again bool, err error) {
	text := f.since(s.seen)
	first := s.seen == nil
	s.seen = f
	if !first {
		return true, s.write(text)
	}
	err = s.write(append([]byte("retry: 1000\n"), text...))
	if errors.Is(err, http.ErrNotSupported) {
		return false, nil
	}
	return !s.single, err
}

// write writes and flushes. A client that does not read is an error after a while.
func (s *stream) write(text []byte) error {
	deadline := s.control.SetWriteDeadline(time.Now().Add(writeLimit))
	if _, err := s.w.Write(text); err != nil {
		return err
	}
	if err := s.control.Flush(); err != nil {
		return err
	}
	return deadline
}

// shutdownOf returns what is closed when the server of the request shuts down, which else would wait for the stream to end.
func (p *Page) shutdownOf(r *http.Request) <-chan struct{} {
	server, ok := r.Context().Value(http.ServerContextKey).(*http.Server)
	if !ok {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	key := weak.Make(server) // so that the page keeps no server, nor what its handlers have
	shut := p.servers[key]
	if shut == nil {
		shut = make(chan struct{})
		if p.servers == nil {
			p.servers = make(map[weak.Pointer[http.Server]]chan struct{})
		}
		p.servers[key] = shut
		server.RegisterOnShutdown(sync.OnceFunc(func() { close(shut) })) // it stays, for requests that it still serves
		runtime.AddCleanup(server, p.forgetServer, key)
	}
	return shut
}

func (p *Page) forgetServer(key weak.Pointer[http.Server]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.servers, key)
}
