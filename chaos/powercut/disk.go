package powercut

import (
	"math/rand/v2"
	"os"
	"path/filepath"
)

// sector is what a disk writes wholly or not at all.
const sector = 512

// A disk is what is on it after a part of what was recorded.
type disk struct {
	files   []*file
	names   map[string]int // that are there for certain
	renamed []event        // created and deleted since the directory was synced
	at      int            // how many events there were
}

// A file has what is there for certain, and what has been done to it since.
type file struct {
	certain []byte
	since   []change
}

type change struct {
	at int // in the log
	event
}

func newDisk() *disk { return &disk{names: make(map[string]int)} }

// play does what comes next in the log.
func (d *disk) play(e event) {
	switch e.kind {
	case created:
		d.files = append(d.files, new(file))
		d.renamed = append(d.renamed, event{kind: created, file: e.file, name: e.name, since: d.at})
	case deleted:
		d.renamed = append(d.renamed, event{kind: deleted, file: e.file, name: e.name, since: d.at})
	case wrote, truncated:
		f := d.files[e.file]
		f.since = append(f.since, change{d.at, e})
	case dropped:
		d.files[e.file].dropped(e.since)
	case synced:
		d.files[e.file].synced(e.since)
	case syncedDir:
		d.syncedDir(e.since)
	}
	d.at++
}

func (f *file) synced(since int) {
	n := 0
	for ; n < len(f.since) && f.since[n].at < since; n++ {
		f.certain = f.since[n].on(f.certain)
	}
	f.since = append([]change(nil), f.since[n:]...)
}

// dropped loses half of what was done before a sync that has failed.
func (f *file) dropped(since int) {
	kept := f.since[:0:0]
	for _, c := range f.since {
		if c.at >= since || c.at%2 == 0 {
			kept = append(kept, c)
		}
	}
	f.since = kept
}

func (d *disk) syncedDir(since int) {
	n := 0
	for ; n < len(d.renamed) && d.renamed[n].since < since; n++ {
		rename(d.names, d.renamed[n])
	}
	d.renamed = d.renamed[n:]
}

func rename(names map[string]int, e event) {
	if e.kind == created {
		names[e.name] = e.file
	} else {
		delete(names, e.name)
	}
}

// on does a change wholly.
func (c change) on(data []byte) []byte {
	if c.kind == truncated {
		return resized(data, c.off)
	}
	data = resized(data, max(int64(len(data)), c.off+int64(len(c.data))))
	copy(data[c.off:], c.data)
	return data
}

// resized is data with another size. It has zeros where it is longer.
func resized(data []byte, size int64) []byte {
	if n := size - int64(len(data)); n > 0 {
		return append(data, make([]byte, n)...)
	}
	return data[:size]
}

// A cut says what of that which was not synced is there when the power is back.
type cut struct {
	dice *rand.Rand
	kept float64 // the part of it
	junk bool    // what was appended but not written is there, with anything in it
}

func newCut(dice *rand.Rand) cut {
	kept := []float64{0, 0, 1, .5, .9, dice.Float64()}
	return cut{dice, kept[dice.IntN(len(kept))], dice.IntN(3) == 0}
}

func (c cut) keeps() bool { return c.dice.Float64() < c.kept }

// after returns the files that are there when the power is back.
func (d *disk) after(c cut) map[string][]byte {
	names := make(map[string]int)
	for name, file := range d.names {
		names[name] = file
	}
	for _, e := range d.renamed { // a file system does these in their order
		if !c.keeps() {
			break
		}
		rename(names, e)
	}
	files := make(map[string][]byte)
	for name, file := range names {
		files[name] = d.files[file].after(c)
	}
	return files
}

func (f *file) after(c cut) []byte {
	data := append([]byte(nil), f.certain...)
	for _, change := range f.since {
		if change.kind == truncated {
			if c.keeps() {
				data = change.on(data)
			}
			continue
		}
		data = change.torn(data, c)
	}
	return data
}

// torn does a write in part: each sector of it, or not.
func (ch change) torn(data []byte, c cut) []byte {
	end := ch.off + int64(len(ch.data))
	for from := ch.off; from < end; {
		to := min((from/sector+1)*sector, end)
		part := change{event: event{kind: wrote, off: from, data: ch.data[from-ch.off : to-ch.off]}}
		if c.keeps() {
			data = part.on(data)
		} else if c.junk && to > int64(len(data)) {
			data = part.junkOn(data, c.dice)
		}
		from = to
	}
	return data
}

// junkOn makes a file as long as with the write, with anything in what is new.
func (c change) junkOn(data []byte, dice *rand.Rand) []byte {
	old := len(data)
	data = resized(data, c.off+int64(len(c.data)))
	for i := old; i < len(data); i++ {
		data[i] = byte(dice.Uint32())
	}
	return data
}

// put writes files to a directory, which has nothing else then.
func put(dir string, files map[string][]byte) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}
