package bytelock

import "sync"

// global is the lines that wait for somebody at the global door. While there are any, one goroutine waits there for all of them.
type global struct {
	mu      sync.Mutex // guards what follows; locked within that of a shard
	lines   []*line
	waiting bool
}

// park adds a line. It is in the state parked, or has left it by itself by the time that the goroutine comes.
func (g *global) park(l *line) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lines = append(g.lines, l)
	if !g.waiting {
		g.waiting = true
		l.file.refs.Add(1) // the line has one, so there is one to make it from
		go l.file.waitAtGlobalDoor()
	}
}

// waitAtGlobalDoor waits until nobody is there, and then sends for each line, though somebody else may have come: else users' locks
// could starve.
func (f *File) waitAtGlobalDoor() {
	defer f.unref()
	err := f.passGlobalDoor()
	for _, l := range f.global.take() {
		l.unpark(err)
	}
}

// passGlobalDoor waits by a thread, of which there is one of this kind for each File.
func (f *File) passGlobalDoor() error {
	at := span{globalDoor, 1}
	err := f.keys.tries.wait(Shared, at)
	f.keys.tries.unlock(at)
	return err
}

// take takes all lines. Those that come later have another goroutine.
func (g *global) take() []*line {
	g.mu.Lock()
	defer g.mu.Unlock()
	lines := g.lines
	g.lines, g.waiting = nil, false
	return lines
}

// unpark sends for the byte, if somebody waits.
func (l *line) unpark(err error) {
	l.shard.mu.Lock()
	defer l.shard.mu.Unlock()
	if l.state != parked {
		return
	}
	l.state = resting
	if err != nil {
		l.fail(err)
	}
	if l.queue.first != nil {
		l.sendNow()
	}
	l.shard.reap(l)
}
