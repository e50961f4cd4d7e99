package bytelock

import (
	"slices"
	"time"
)

// A lock that this File has shared may be awaited by another process for as long as something lasts that its holder could end: rows that
// the program has open, perhaps forgotten. So as long as a File has locks it looks once in a while at those that it has had for
// long, and tells of the keys that somebody waits for.

// A listener is told of them. It may call the File.
type listener struct{ awaited func(Key) }

// lookEvery is how often it looks.
const lookEvery = time.Second

// Listen has f be told of each key that somebody waits for, and that the File has shared and has had for long. It is told again and again.
func (f *File) Listen(awaited func(Key)) (stop func()) {
	l := &listener{awaited}
	f.listening.Lock()
	defer f.listening.Unlock()
	f.listeners = append(f.listeners, l)
	return func() {
		f.listening.Lock()
		defer f.listening.Unlock()
		f.listeners = slices.DeleteFunc(f.listeners, func(o *listener) bool { return o == l })
	}
}

// lookLater has it look, if it does not already.
func (f *File) lookLater() {
	if f.looking.Load() || !f.looking.CompareAndSwap(false, true) {
		return
	}
	time.AfterFunc(lookEvery, f.look)
}

func (f *File) look() {
	keys, any := f.awaited()
	for _, l := range f.theListeners() {
		for _, k := range keys {
			l.awaited(k)
		}
	}
	if any {
		time.AfterFunc(lookEvery, f.look)
		return
	}
	f.looking.Store(false)
	if _, any := f.awaited(); any && f.looking.CompareAndSwap(false, true) { // it has come meanwhile
		time.AfterFunc(lookEvery, f.look)
	}
}

func (f *File) theListeners() []*listener {
	f.listening.Lock()
	defer f.listening.Unlock()
	return slices.Clone(f.listeners)
}

// awaited returns the keys of shared locks that somebody waits for, and whether there are any locks. The descriptors are open while there is a
// line.
func (f *File) awaited() (keys []Key, any bool) {
	old := time.Now().Add(-lookEvery / 2)
	for i := range f.shards {
		s := &f.shards[i]
		s.mu.Lock()
		for k, l := range s.lines {
			any = any || l.users > 0
			if l.users > 0 && l.have == Shared && l.since.Before(old) && l.place.awaited(false) {
				keys = append(keys, k)
			}
		}
		s.mu.Unlock()
	}
	return keys, any
}
