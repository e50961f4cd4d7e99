package sequential

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// A called is an op that was called, and what came of it.
type called struct {
	*op
	call, end int64 // when
	result
	left bool // it was cancelled: nobody knows whether it was done, and it may be done later
}

// A row is one of the journal. It has the name of the call that wrote something, or what was dropped.
type row struct{ did, dropped string }

// An order is the search for an order of calls, one after the other, in which each could have been told what it was told, and none
// comes before one that had ended when it began.
//
// The journal says in which order calls did anything. All others (reads, and what failed or found nothing) can be
// wherever the database was as they were told. So each is put where it is possible for the first time: that takes no place from
// others.
type order struct {
	now     state
	waiting []called // without a place so far, by the time of their calls
	rows    []row
}

// judge returns the state at the end, or what is wrong.
func judge(start state, calls []called, rows []row) (end state, wrong error) {
	o := order{start, slices.Clone(calls), rows}
	wrote := make(map[string]bool)
	for _, r := range rows {
		wrote[r.did] = true
	}
	o.waiting = slices.DeleteFunc(o.waiting, func(c called) bool { return c.left && !wrote[c.name] })
	for i := range o.waiting {
		if o.waiting[i].left {
			o.waiting[i].end = math.MaxInt64
		}
	}
	slices.SortFunc(o.waiting, func(a, b called) int { return cmp.Compare(a.call, b.call) })
	for {
		o.placeIdle(wrote)
		if len(o.rows) == 0 {
			break
		}
		if err := o.placeNext(); err != nil {
			return o.now, err
		}
	}
	if len(o.waiting) > 0 {
		return o.now, o.misplaced(o.waiting[0])
	}
	return o.now, nil
}

// ready are those that may be next: nobody who has no place had ended when they began.
func (o *order) ready() []called {
	first := int64(math.MaxInt64)
	for i, c := range o.waiting {
		if c.call > first {
			return o.waiting[:i]
		}
		first = min(first, c.end)
	}
	return o.waiting
}

func (o *order) place(c called) {
	o.waiting = slices.DeleteFunc(o.waiting, func(w called) bool { return w.op == c.op })
}

// placeIdle finds places for those that did nothing.
func (o *order) placeIdle(wrote map[string]bool) {
	for again := true; again; {
		again = false
		for _, c := range slices.Clone(o.ready()) {
			idle := !wrote[c.name] && (c.drops() == "" || c.result.rows == 0)
			if !idle {
				continue
			}
			if next, err := o.now.told(c); err == nil && (next == o.now || c.kind == inTx && !c.commit) {
				o.place(c)
				again = true
			}
		}
	}
}

// placeNext finds the call that has the next row of the journal.
func (o *order) placeNext() error {
	next := o.rows[0]
	var found *called
	for _, c := range o.ready() {
		is := c.name == next.did && next.did != ""
		if c.drops() == next.dropped && next.dropped != "" {
			_, err := o.now.told(c)
			is = err == nil && c.result.rows > 0
		}
		if is && (found == nil || c.end < found.end) { // several may drop the same
			found = &c
		}
	}
	if found == nil {
		return fmt.Errorf("%+v is in the journal, and none that could have done that then: %s", next, o.describe())
	}
	state, err := o.now.told(*found)
	if err != nil {
		return fmt.Errorf("it is in the journal, and: %w", err)
	}
	if found.failed != "" && found.kind != insertOrFail && found.kind != panicAfter {
		return fmt.Errorf("%+v is in the journal, and was told %q", *found.op, found.result)
	}
	o.now = state
	o.place(*found)
	return o.skip(*found)
}

// skip goes on to the rows of another call.
func (o *order) skip(c called) error {
	switch {
	case c.kind == inTx:
		for i, r := range o.rows[1:] {
			if r.did == c.name {
				o.rows = o.rows[i+2:]
				return nil
			}
		}
		return fmt.Errorf("half in the journal: %+v", c)
	case c.drops() != "":
		if int64(len(o.rows)) < c.result.rows || slices.ContainsFunc(o.rows[:c.result.rows], func(r row) bool { return r != o.rows[0] }) {
			return fmt.Errorf("%+v has dropped less than it was told: %+v", c, o.rows[:min(int64(len(o.rows)), c.result.rows)])
		}
		o.rows = o.rows[c.result.rows:]
		return nil
	}
	for len(o.rows) > 0 && o.rows[0].did == c.name {
		o.rows = o.rows[1:]
	}
	return nil
}

// told is does for a call that was told something, which must be that.
func (s state) told(c called) (state, error) {
	if undone[c.failed] {
		return s, nil
	}
	next, want := s.does(*c.op)
	if want != c.result && !c.left {
		return s, fmt.Errorf("%+v was told %q, and where it comes it is %q: %+v", *c.op, c.result, want, s)
	}
	return next, nil
}

func (o *order) misplaced(c called) error {
	return fmt.Errorf("nowhere could a call have been told this: %+v: %q; at the end there is %+v", *c.op, c.result, o.now)
}

func (o *order) describe() string {
	var all []string
	for _, c := range o.ready() {
		all = append(all, fmt.Sprintf("%+v: %q", *c.op, c.result))
	}
	return strings.Join(all, "; ")
}
