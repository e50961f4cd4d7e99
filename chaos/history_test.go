package chaos

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anishathalye/porcupine"
)

// A register is a user's row: a number that each write increases by one, and the
// IDs of the last writes, latest first.
type register struct {
	n     int64
	trail string
}

// Operation IDs have one length, so that a trail can be cut off and told apart
// without separators.
const (
	idLength    = 6
	trailLength = 32 * idLength
)

// then is the register after the write with the given ID.
func (r register) then(id string) register {
	trail := id + r.trail
	return register{r.n + 1, trail[:min(len(trail), trailLength)]}
}

// last is the ID of the write that made the register what it is.
func (r register) last() string { return r.trail[:min(len(r.trail), idLength)] }

func (r register) writers() []string {
	var ids []string
	for chunk := range slices.Chunk([]byte(r.trail), idLength) {
		ids = append(ids, string(chunk))
	}
	return ids
}

func (r register) String() string { return fmt.Sprintf("%d (by %s)", r.n, r.last()) }

var lastID atomic.Int64

func newID() string {
	id := strconv.FormatInt(lastID.Add(1), 36)
	return strings.Repeat("0", idLength-len(id)) + id
}

// An outcome is what the program knows of a write.
type outcome int

const (
	failed  outcome = iota // it has not taken effect, and never will
	unknown                // it was sent, and there was no answer that settles it
	acked                  // it has taken effect
)

// An op is one operation on a register.
type op struct {
	id    string
	user  int
	what  string
	start time.Duration
	end   time.Duration

	saw    *register     // what it read, if it got that far; a write read it before it wrote
	sawAt  time.Duration // when it had read it
	writes bool
	result outcome       // of the write
	known  time.Duration // when it was known that the write had taken effect, if it was not acked
}

// A journal has the IDs of writes that had taken effect when it was read.
type journal struct {
	ids    []string
	readAt time.Duration
}

func (o *op) String() string {
	s := fmt.Sprintf("%s %-28s %10v to %10v", o.id, o.what, o.start.Round(time.Microsecond), o.end.Round(time.Microsecond))
	if o.saw != nil {
		s += fmt.Sprintf(" saw %v", *o.saw)
	}
	if o.writes {
		s += [...]string{", was not written", ", perhaps written", ", written"}[o.result]
	}
	return s
}

// see notes what the operation has read.
func (o *op) see(r register, now time.Duration) { o.saw, o.sawAt = &r, now }

// A history records the operations of one round.
type history struct {
	began  time.Time
	strict bool // see settle

	mu  sync.Mutex // guards ops
	ops []*op

	// open are the writes of all rounds that nobody knows to have taken effect.
	// They may do so late: for good if they were unknown, to be found guilty if
	// they had failed. Only judge uses them, between rounds.
	open map[string]*op
}

func newHistory(strict bool) *history {
	return &history{began: time.Now(), strict: strict, open: make(map[string]*op)}
}

func (h *history) now() time.Duration { return time.Since(h.began) }

func (h *history) begin(user int, what string, writes bool) *op {
	return &op{id: newID(), user: user, what: what, writes: writes, start: h.now()}
}

func (h *history) finish(o *op) {
	o.end = h.now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, o)
}

// A certainty counts what the history of a round is made of.
type certainty struct {
	reads, writes int // that were answered
	resolved      int // writes without an answer that have taken effect
	dropped       int // writes without an answer that have not
}

func (c *certainty) add(d certainty) {
	c.reads += d.reads
	c.writes += d.writes
	c.resolved += d.resolved
	c.dropped += d.dropped
}

// judge checks the history of a round in which nobody is at work any more, and
// begins the next.
//
// A write without an answer may or may not have taken effect, at any time after its
// start. If it has, it is checked like any other, except that it ends when that
// became known; if not, it is left out. So no operation remains that the checker
// would have to guess about.
func (h *history) judge(j journal) (violations []string, sum certainty) {
	h.mu.Lock()
	ops := h.ops
	h.ops = nil
	h.mu.Unlock()

	for _, o := range ops {
		if o.writes && o.result != acked {
			h.open[o.id] = o
		}
	}
	late := h.settle(ops, j)
	var events []porcupine.Operation
	for _, o := range append(ops, late...) {
		events = append(events, o.event(&sum)...)
		if o.known > 0 && o.result == failed {
			violations = append(violations, fmt.Sprintf("a write that was rolled back, refused or never sent has taken effect: %v", o))
		}
	}
	return append(violations, check(events)...), sum
}

// settle finds out which of the open writes have taken effect, and returns those of
// them that are of earlier rounds.
//
// Where a write may come so late that the lock does not cover it any more, the
// journal must not be believed: it may tell of one whose effect was overwritten by
// another who had read before. Then it counts only if its ID was read in a register.
// This is sound too, since what happened between two reads is all in the trail.
func (h *history) settle(ops []*op, j journal) (late []*op) {
	ids, known := j.ids, j.readAt
	if !h.strict {
		ids, known = idsRead(ops), math.MaxInt64
	}
	for _, id := range ids {
		o := h.open[id]
		if o == nil {
			continue
		}
		delete(h.open, id)
		o.known = known
		if !slices.Contains(ops, o) {
			late = append(late, o)
		}
	}
	return late
}

// idsRead are the IDs of all writes that somebody has read.
func idsRead(ops []*op) (ids []string) {
	for _, o := range ops {
		if o.saw != nil {
			ids = append(ids, o.saw.writers()...)
		}
	}
	return ids
}

// event returns the operation as the checker is to see it, or nothing if it has
// neither read nor written.
func (o *op) event(sum *certainty) []porcupine.Operation {
	e := porcupine.Operation{Input: o, Output: o.writes, Call: int64(o.start), Return: int64(o.end)}
	switch {
	case o.writes && o.result == acked:
		sum.writes++
	case o.known > 0:
		sum.resolved++
		e.Return = int64(o.known)
	case o.saw != nil: // a read, or the read in a write that was not completed
		sum.reads++
		e.Output, e.Return = false, int64(o.sawAt)
		sum.dropUnknown(o)
	default:
		sum.dropUnknown(o)
		return nil
	}
	return []porcupine.Operation{e}
}

func (c *certainty) dropUnknown(o *op) {
	if o.writes && o.result == unknown {
		c.dropped++
	}
}

// state is the checker's idea of a register: the trail's rest follows from it.
type state struct {
	known bool
	n     int64
	last  string
}

// model is a register that can be read, and read and increased in one. In which
// state the round found it, its first operation tells.
var model = porcupine.Model{
	Init: func() any { return state{} },
	Step: func(s, input, output any) (bool, any) {
		now, o, writes := s.(state), input.(*op), output.(bool)
		if o.saw != nil {
			saw := state{true, o.saw.n, o.saw.last()}
			if now.known && now != saw {
				return false, now
			}
			now = saw
		}
		if writes {
			now = state{true, now.n + 1, o.id}
		}
		return true, now
	},
}

func byUser(events []porcupine.Operation) [][]porcupine.Operation {
	users := make(map[int][]porcupine.Operation)
	for _, e := range events {
		user := e.Input.(*op).user
		users[user] = append(users[user], e)
	}
	var parts [][]porcupine.Operation
	for _, part := range users {
		parts = append(parts, part)
	}
	return parts
}

// patience is generous: without operations to guess about, a second is long.
const patience = time.Minute

func check(events []porcupine.Operation) (violations []string) {
	for _, part := range byUser(events) {
		result, info := porcupine.CheckOperationsVerbose(model, part, patience)
		if result == porcupine.Ok {
			continue
		}
		violations = append(violations, fmt.Sprintf("the history of user %d is not linearizable (%s): %s",
			part[0].Input.(*op).user, result, contradiction(part, info)))
	}
	return violations
}

// contradiction shows the operations that the checker found no place for, and those
// around the first of them.
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
	b.WriteString("\n    writes without an answer that had taken effect:")
	for _, e := range part {
		if o := e.Input.(*op); o.known > 0 {
			fmt.Fprintf(&b, "\n\t%v", o)
		}
	}
	b.WriteString("\n    around the first without a place:")
	for _, e := range part[max(0, first-10):min(len(part), first+10)] {
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
