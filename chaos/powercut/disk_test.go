package powercut

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
)

// on plays events on an empty disk.
func on(events ...event) *disk {
	d := newDisk()
	for _, e := range events {
		d.play(e)
	}
	return d
}

func text(s string, size int) []byte { return []byte(strings.Repeat(s, size)) }

// TestDiskKeepsWhatWasSynced, and no more if nothing else is kept.
func TestDiskKeepsWhatWasSynced(t *testing.T) {
	nothing := cut{rand.New(rand.NewPCG(1, 1)), 0, false}
	d := on(
		event{kind: created, file: 0, name: "a"},
		event{kind: wrote, file: 0, data: text("1", 1000)},
		event{kind: wrote, file: 0, data: text("2", 1000), off: 500},
		event{kind: synced, file: 0, since: 2}, // it began before the second write
	)
	if files := d.after(nothing); len(files) != 0 {
		t.Errorf("files without a name on the disk: %d", len(files))
	}
	d.play(event{kind: syncedDir, since: 4})
	if got := d.after(nothing)["a"]; !bytes.Equal(got, text("1", 1000)) {
		t.Errorf("got %q", got)
	}
	d.play(event{kind: truncated, file: 0, off: 700})
	d.play(event{kind: synced, file: 0, since: 6})
	if got, want := d.after(nothing)["a"], append(text("1", 500), text("2", 200)...); !bytes.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	d.play(event{kind: deleted, file: 0, name: "a"})
	if len(d.after(nothing)) != 1 {
		t.Error("it is gone before the directory is synced")
	}
	d.play(event{kind: syncedDir, since: 8})
	if len(d.after(nothing)) != 0 {
		t.Error("it is still there")
	}
}

// TestDiskTearsWrites: of one that was not synced each sector is there or not, whatever the others are.
func TestDiskTearsWrites(t *testing.T) {
	d := on(
		event{kind: created, file: 0, name: "a"},
		event{kind: syncedDir, since: 1},
		event{kind: wrote, file: 0, data: text("1", 100)},
		event{kind: synced, file: 0, since: 3},
		event{kind: wrote, file: 0, data: text("2", sector), off: 50},
	)
	seen := make(map[string]bool)
	for seed := range uint64(100) {
		seen[string(d.after(cut{rand.New(rand.NewPCG(seed, 0)), .5, false})["a"])] = true
	}
	old, first := string(text("1", 100)), string(text("1", 50))+string(text("2", sector-50))
	second := old + string(make([]byte, sector-100)) + string(text("2", 50))
	both := first + string(text("2", 50))
	for _, want := range []string{old, first, second, both} {
		if !seen[want] {
			t.Errorf("never seen: %q", want)
		}
	}
	if len(seen) != 4 {
		t.Errorf("%d ways to tear a write over two sectors, want 4", len(seen))
	}
}
