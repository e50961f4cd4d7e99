//go:build unix

package processes

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"sync/atomic"
)

// An event is a line in the file of a process.
type event struct {
	Kind string `json:"k"`
	At   int64  `json:"t,omitempty"`

	Op     string  `json:"op,omitempty"`  // the ID of an operation: of begin, saw, end
	User   int     `json:"u,omitempty"`   // of begin, held
	What   string  `json:"w,omitempty"`   // of begin, held, bad
	Writes bool    `json:"wr,omitempty"`  // of begin
	Again  bool    `json:"ag,omitempty"`  // of begin: it may be made twice
	Saw    state   `json:"saw,omitzero"`  // of saw
	Result outcome `json:"r,omitempty"`   // of end
	Why    string  `json:"why,omitempty"` // of end: the error

	Shared bool   `json:"sh,omitempty"` // of held
	Owner  string `json:"o,omitempty"`
	From   int64  `json:"from,omitempty"`

	Counts map[string]int `json:"n,omitempty"` // of counts: calls, by the reason of their error
}

// The kinds of events.
const (
	eventBegin  = "begin"  // an operation on a register begins
	eventSaw    = "saw"    // it has read the register
	eventEnd    = "end"    // it has ended
	eventHeld   = "held"   // a lock was had from From to At
	eventBad    = "bad"    // something is wrong that the process has seen itself
	eventCounts = "counts" // how many calls have ended how
)

// A recorder writes the events of a process. Each is in the kernel's hands when note returns: it outlives the process.
type recorder struct {
	file   *os.File
	prefix string // of the IDs of this process
	last   atomic.Int64
}

func newRecorder(path string, process int) (*recorder, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	return &recorder{file: f, prefix: fmt.Sprintf("%03d", process)}, err
}

func (r *recorder) note(e event) {
	if e.At == 0 {
		e.At = now()
	}
	line, err := json.Marshal(e)
	if err == nil {
		_, err = r.file.Write(append(line, '\n')) // one write, so that lines of several goroutines do not mix
	}
	if err != nil {
		panic(err)
	}
}

func (r *recorder) newID() string { return fmt.Sprintf("%s%05d", r.prefix, r.last.Add(1)) }

func (r *recorder) bad(format string, args ...any) {
	r.note(event{Kind: eventBad, What: fmt.Sprintf(format, args...)})
}

// A record is an operation while it runs.
type record struct {
	*recorder
	id string
}

// begin notes that an operation is about to begin. Nothing of it was sent before.
func (r *recorder) begin(user int, what string, writes bool) record {
	return r.beginOp(event{User: user, What: what, Writes: writes})
}

func (r *recorder) beginOp(e event) record {
	o := record{r, r.newID()}
	e.Kind, e.Op = eventBegin, o.id
	r.note(e)
	return o
}

func (o record) saw(s state)        { o.note(event{Kind: eventSaw, Op: o.id, Saw: s}) }
func (o record) end(result outcome) { o.endFor(result, nil) }

// endFor is end, where a call has told err.
func (o record) endFor(result outcome, err error) {
	e := event{Kind: eventEnd, Op: o.id, Result: result}
	if err != nil {
		e.Why = err.Error()
	}
	o.note(e)
}

// read returns the events of a file. The last line of a process that was killed may be cut off.
func read(path string) (events []event, err error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	content = content[:bytes.LastIndexByte(content, '\n')+1]
	lines := bufio.NewScanner(bytes.NewReader(content))
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		events = append(events, e)
	}
	return events, lines.Err()
}
