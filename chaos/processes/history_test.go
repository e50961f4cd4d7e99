//go:build unix

package processes

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// A state is that of a register: a number that each write increases by one, and the ID of the last write.
type state struct {
	N    int64  `json:"n"`
	Last string `json:"l"`
}

func (s state) then(id string) state { return state{s.N + 1, id} }

// An outcome is what a process knows of a write.
type outcome string

const (
	failed  outcome = "failed" // it has not taken effect, and never will
	unknown outcome = ""       // it may have been sent, and there was no answer that settles it
	acked   outcome = "acked"  // it has taken effect
)

// never is the end of what has none.
const never = math.MaxInt64

// An op is an operation on a register, as the events tell.
type op struct {
	id     string
	user   int
	what   string
	writes bool
	start  int64
	end    int64 // never if the process was killed
	saw    *state
	sawAt  int64
	result outcome // of the write
	again  bool    // it may be made twice
	why    string  // it was ended by an error
	took   int     // how often it took effect, by the journal
}

func (o *op) String() string {
	at := func(t int64) string {
		if t == never {
			return "never"
		}
		return fmt.Sprintf("%.6f", float64(t)/1e9)
	}
	s := fmt.Sprintf("%s user %d %-24s %s to %s", o.id, o.user, o.what, at(o.start), at(o.end))
	if o.saw != nil {
		s += fmt.Sprintf(" saw %d of %s at %s", o.saw.N, o.saw.Last, at(o.sawAt))
	}
	if o.writes {
		s += fmt.Sprintf(", write: %s, took effect %d times", cmp.Or(string(o.result), "unknown"), o.took)
	}
	if o.why != "" {
		s += " (" + o.why + ")"
	}
	return s
}

// A history is what all processes of a round have done.
type history struct {
	ops    map[string]*op
	held   []*held
	bad    []string
	counts map[string]int
}

func newHistory() *history { return &history{ops: make(map[string]*op), counts: make(map[string]int)} }

// add adds the events of a process.
func (h *history) add(events []event) {
	for _, e := range events {
		switch e.Kind {
		case eventBegin:
			h.ops[e.Op] = &op{id: e.Op, user: e.User, what: e.What, writes: e.Writes, again: e.Again, start: e.At, end: never}
		case eventSaw:
			o := h.ops[e.Op]
			o.saw, o.sawAt = &e.Saw, e.At
		case eventEnd:
			o := h.ops[e.Op]
			o.end, o.result, o.why = e.At, e.Result, e.Why
		case eventHeld:
			h.held = append(h.held, &held{e.User, e.Shared, e.Owner, e.What, e.From, e.At})
		case eventBad:
			h.bad = append(h.bad, e.What)
		case eventCounts:
			for kind, n := range e.Counts {
				h.counts[kind] += n
			}
		}
	}
}

// A sum says how much was checked.
type sum struct {
	reads, writes int // that were answered
	resolved      int // writes without an answer that have taken effect
	dropped       int // writes without an answer that have not
	twice         int // writes that were sent again
	held          int // times that a lock was had
}

func (s sum) String() string {
	return fmt.Sprintf("%d reads, %d writes, %d writes without an answer that had taken effect, %d more without one and without effect, %d made twice, %d locks",
		s.reads, s.writes, s.resolved, s.dropped, s.twice, s.held)
}

func (s sum) isLittle() bool { return s.reads < 100 || s.writes < 50 || s.held < 50 }

func (s *sum) add(t sum) {
	s.reads += t.reads
	s.writes += t.writes
	s.resolved += t.resolved
	s.dropped += t.dropped
	s.twice += t.twice
	s.held += t.held
}

// judge checks the history, when nobody is at work any more, by what has taken effect.
func (h *history) judge(journal []string) (violations []string, s sum) {
	for _, id := range journal {
		if o := h.ops[id]; o != nil {
			o.took++
		}
	}
	var events []porcupine.Operation
	for _, o := range h.ops {
		switch {
		case o.took > 1 && !o.again:
			violations = append(violations, fmt.Sprintf("a write was made twice: %v", o))
		case o.took > 0 && o.result == failed:
			violations = append(violations, fmt.Sprintf("a write that was rolled back, refused or never sent has taken effect: %v", o))
		case o.took == 0 && o.result == acked:
			violations = append(violations, fmt.Sprintf("a write that was acknowledged has not taken effect: %v", o))
		}
		events = append(events, o.event(&s)...)
	}
	s.held = len(h.held)
	violations = append(violations, overlaps(h.held)...)
	violations = append(violations, h.bad...)
	return append(violations, check(events)...), s
}

// event returns the operation as the checker is to see it, or nothing if it has neither read nor written. What has no end may
// come at any time after it began.
func (o *op) event(s *sum) []porcupine.Operation {
	e := porcupine.Operation{Input: o, Output: true, Call: o.start, Return: o.end}
	switch {
	case o.took > 1: // at times of its own, the one that was answered and the others
		s.twice++
		second := *o
		second.saw = nil
		e.Return = never
		return []porcupine.Operation{e, {Input: &second, Output: true, Call: o.start, Return: never}}
	case o.took > 0 && o.result == acked:
		s.writes++
		return []porcupine.Operation{e}
	case o.took > 0:
		s.resolved++
		e.Return = never
		return []porcupine.Operation{e}
	case o.writes && o.result == unknown:
		s.dropped++
	}
	if o.saw == nil {
		return nil
	}
	s.reads++
	e.Output, e.Return = false, o.sawAt
	return []porcupine.Operation{e}
}

// position is the checker's idea of a register, in the beginning none.
type position struct {
	known bool
	state
}

// model is a register that can be read, and read and increased in one. In which state the round found it, its first operation
// tells.
var model = porcupine.Model{
	Init: func() any { return position{} },
	Step: func(p, input, output any) (bool, any) {
		is, o, writes := p.(position), input.(*op), output.(bool)
		if o.saw != nil {
			if is.known && is.state != *o.saw {
				return false, is
			}
			is = position{true, *o.saw}
		}
		if writes {
			is = position{true, is.then(o.id)}
		}
		return true, is
	},
}

// patience is generous: with what the journal settles there is little to guess.
const patience = 2 * time.Minute

func check(events []porcupine.Operation) (violations []string) {
	users := make(map[int][]porcupine.Operation)
	for _, e := range events {
		user := e.Input.(*op).user
		users[user] = append(users[user], e)
	}
	for user, part := range users {
		result, info := porcupine.CheckOperationsVerbose(model, part, patience)
		if result != porcupine.Ok {
			violations = append(violations, fmt.Sprintf("the history of user %d is not linearizable (%s): %s", user, result, contradiction(part, info)))
		}
	}
	return violations
}

// contradiction shows the operations that the checker found no place for, and those around the first of them.
func contradiction(part []porcupine.Operation, info porcupine.LinearizationInfo) string {
	placed := longest(info)
	slices.SortFunc(part, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d operations can be put in an order, but not", len(placed), len(part))
	first, shown := -1, 0
	for i, e := range part {
		if placed[e.Input.(*op)] {
			continue
		}
		if first < 0 {
			first = i
		}
		if shown++; shown <= 5 {
			fmt.Fprintf(&b, "\n\t%v", e.Input)
		}
	}
	b.WriteString("\n    around the first without a place:")
	for _, e := range part[max(0, first-12):min(len(part), first+12)] {
		fmt.Fprintf(&b, "\n\t%v", e.Input)
	}
	return b.String()
}

// longest returns the operations of the longest order that the checker has found.
func longest(info porcupine.LinearizationInfo) map[*op]bool {
	placed := make(map[*op]bool)
	for _, orders := range info.PartialLinearizationsOperations() {
		for _, order := range orders {
			if len(order) <= len(placed) {
				continue
			}
			clear(placed)
			for _, e := range order {
				placed[e.Input.(*op)] = true
			}
		}
	}
	return placed
}
