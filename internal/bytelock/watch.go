package bytelock

import "time"

// watch begins a watch if readers do not follow readers that are there, because somebody waits at a door: who may leave it again, of
// which nobody tells. The line is resting.
func (l *line) watch() {
	if !l.watched && l.isOver() {
		l.watched = true
		l.away++
		go l.lookAgain()
	}
}

// isOver tells whether the first in the queue could follow but for who is at a door.
func (l *line) isOver() bool {
	return l.over && l.state == resting && l.have == Shared && l.queue.first != nil && l.queue.first.mode == Shared
}

// lookAgain serves the queue now and then, as long as that may help.
func (l *line) lookAgain() {
	const longest = 16 * time.Millisecond
	for pause := time.Millisecond; ; pause = min(2*pause, longest) {
		time.Sleep(pause)
		if !l.stillOver() {
			return
		}
	}
}

func (l *line) stillOver() bool {
	l.shard.mu.Lock()
	defer l.shard.mu.Unlock()
	if l.isOver() {
		l.serve()
	}
	if l.isOver() {
		return true
	}
	l.watched = false
	l.away--
	l.shard.reap(l)
	return false
}
