package powercut

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// recorders are those that record, by directory.
var recorders sync.Map

// A Recorder notes in one order what is done to the files of one directory, and what it is told besides.
type Recorder struct {
	dir string

	// SyncTakes is called for how long a sync takes. It may be nil.
	SyncTakes func() time.Duration

	// SyncFails is called for whether a sync of a file fails. It may be nil. Then the kernel drops what it could not write, and
	// takes it for written. It tells that to everybody who has the file open, once to each.
	SyncFails func(name string) bool

	mu    sync.Mutex // guards what follows
	log   []event
	bytes int            // that were written
	names map[string]int // of the files that are there: their numbers
	infos []os.FileInfo  // of all files that there were, by their numbers
	fails map[int]int    // how many syncs of a file have failed
	told  map[any]int    // of how many of them who has it open has been told
}

// An event is something that was done, when it was done.
type event struct {
	kind  kind
	file  int    // its number: a name may be that of one file after the other
	name  string // of created and deleted
	off   int64  // of wrote, or the new size of truncated
	data  []byte
	since int // of synced: the events before this one are covered
	note  any
}

type kind uint8

const (
	created kind = iota
	deleted
	wrote
	truncated
	synced    // a file
	dropped   // the same, but it has failed
	syncedDir // the directory, which has the names
	noted
)

// NewRecorder records what SQLite does to the files in a directory by VFS, until Stop. What is there already is
// taken for synced.
func NewRecorder(dir string) (*Recorder, error) {
	r := &Recorder{dir: dir, names: make(map[string]int), fails: make(map[int]int), told: make(map[any]int)}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		file := r.create(e.Name())
		r.add(event{kind: wrote, file: file, data: data})
		r.add(event{kind: synced, file: file, since: len(r.log)})
	}
	r.add(event{kind: syncedDir, since: len(r.log)})
	recorders.Store(dir, r)
	return r, nil
}

// Stop ends the recording.
func (r *Recorder) Stop() { recorders.Delete(r.dir) }

// Note notes something of the caller's.
func (r *Recorder) Note(what any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.add(event{kind: noted, note: what})
}

// Size is how many bytes were written.
func (r *Recorder) Size() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bytes
}

func (r *Recorder) add(e event) {
	r.log = append(r.log, e)
	r.bytes += len(e.data)
}

func (r *Recorder) create(name string) (file int) {
	info, _ := os.Stat(filepath.Join(r.dir, name)) // nil if it is gone already
	file, r.infos = len(r.infos), append(r.infos, info)
	r.names[name] = file
	r.add(event{kind: created, file: file, name: name})
	return file
}

// An opened is a file that is open.
type opened struct {
	r    *Recorder
	file int

	// syncsName tells that the first sync is one of the directory too. Who has opened the file guards it.
	syncsName bool
}

func (r *Recorder) opened(name string, syncsName bool) *opened {
	r.mu.Lock()
	defer r.mu.Unlock()
	file, ok := r.names[name]
	if !ok {
		file = r.create(name)
	}
	o := &opened{r, file, syncsName}
	r.told[o] = r.fails[file]
	return o
}

func (o *opened) add(e event) {
	o.r.mu.Lock()
	defer o.r.mu.Unlock()
	e.file = o.file
	o.r.add(e)
}

func (o *opened) wrote(data []byte, off int64) { o.add(event{kind: wrote, data: data, off: off}) }
func (o *opened) truncated(size int64)         { o.add(event{kind: truncated, off: size}) }

func (o *opened) sync() error {
	if err := o.r.syncFile(o.file, o); err != nil {
		return err
	}
	if o.syncsName {
		o.syncsName = false
		o.r.sync(event{kind: syncedDir})
	}
	return nil
}

// syncFile syncs a file for somebody who has it open.
func (r *Recorder) syncFile(file int, who any) error {
	kind := synced
	if r.SyncFails != nil && r.SyncFails(r.name(file)) {
		kind = dropped
	}
	r.sync(event{kind: kind, file: file})
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.told[who] == r.fails[file] {
		return nil
	}
	r.told[who] = r.fails[file]
	return syscall.EIO
}

// name is what the file is called now.
func (r *Recorder) name(file int) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, f := range r.names {
		if f == file {
			return name
		}
	}
	return ""
}

// sync notes a sync when it has ended. It covers what was done before it began.
func (r *Recorder) sync(e event) {
	r.mu.Lock()
	e.since = len(r.log)
	r.mu.Unlock()
	if r.SyncTakes != nil {
		time.Sleep(r.SyncTakes())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.kind == dropped { // together, so that whoever has lost by it is told
		r.fails[e.file]++
	}
	r.add(e)
}

// SyncFile notes a sync of a file by the program itself, which has it open.
func (r *Recorder) SyncFile(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	file, ok := r.find(info)
	if !ok {
		return fmt.Errorf("powercut: %s was synced, and SQLite has not opened it", f.Name())
	}
	return r.syncFile(file, f)
}

// find finds a file. What was made last is the one, if a file has what another had that is gone.
func (r *Recorder) find(info os.FileInfo) (file int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, known := range slices.Backward(r.infos) {
		if known != nil && os.SameFile(known, info) {
			return i, true
		}
	}
	return 0, false
}

// SyncDir notes a sync of the directory by the program itself.
func (r *Recorder) SyncDir(string) error {
	r.sync(event{kind: syncedDir})
	return nil
}

func (r *Recorder) deleted(name string, syncsDir bool) {
	r.mu.Lock()
	r.add(event{kind: deleted, file: r.names[name], name: name})
	delete(r.names, name)
	r.mu.Unlock()
	if syncsDir {
		r.sync(event{kind: syncedDir})
	}
}
