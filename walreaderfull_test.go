package dblocker

import "testing"

// TestNoteAfterTheLastMark: who has looked at the state of the walReader before another call
// began the last of the reads comes to its mutex when there are no marks left.
func TestNoteAfterTheLastMark(t *testing.T) {
	db, _ := openWAL(t, "")
	w := readUntilKept(t, db)
	waitFor(t, func() bool {
		passAlone(t, w.gate)
		w.note()
		return w.seen.Load() == allMarks
	})
	w.seen.Store(noRead) // as that call has seen it
	w.note()
}
