package fakedriver

import (
	"fmt"
	"runtime"
	"strings"
)

// A running call is one that a connection is in.
type running struct {
	method string
	stack  [32]uintptr
}

// overlaps tells of a method whether database/sql itself calls it beside others on the connection, or there is none yet.
func overlaps(method string) bool {
	of, name, _ := strings.Cut(method, ".")
	return of == "connector" || of == "driver" || of == "rows" && strings.HasPrefix(name, "Column")
}

// enter begins a call on a connection, and leave ends it. A connection is in one call at a time: two are a fault of who calls, which ends the
// process, since an error might be taken for one of the driver's, and a panic be caught.
func (s *Server) enter(conn int, method string) (leave func()) {
	if overlaps(method) {
		return func() {}
	}
	now := &running{method: method}
	runtime.Callers(3, now.stack[:])
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil {
		s.running = make(map[int]*running)
	}
	if other := s.running[conn]; other != nil {
		report := fmt.Sprintf("two calls at a time on connection %d:\n%v\nand\n%v", conn, other, now)
		if s.Overlap == nil {
			go panic(report)
			select {}
		}
		s.Overlap(report)
		return func() {}
	}
	s.running[conn] = now
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.running, conn)
	}
}

func (r *running) String() string {
	var b strings.Builder
	b.WriteString(r.method)
	for frames := runtime.CallersFrames(r.stack[:]); ; {
		f, more := frames.Next()
		if f.PC != 0 {
			fmt.Fprintf(&b, "\n\t%s\n\t\t%s:%d", f.Function, f.File, f.Line)
		}
		if !more {
			return b.String()
		}
	}
}
