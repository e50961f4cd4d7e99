// Package leftovers notes, while a test looks, what a handle is used for: client connections that the program has, sections,
// and statements without a user. It is what dblocker and dblockertest have in common.
package leftovers

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A Place is where a handle looks for its Watch: it has none while no test looks.
type Place = atomic.Pointer[Watch]

// PlaceOf finds the place of a handle. Package dblocker sets it.
var PlaceOf func(ctx context.Context, db interface {
	Conn(context.Context) (*sql.Conn, error)
}) (*Place, error)

// A Watch notes what one handle is used for.
type Watch struct {
	mu    sync.Mutex // guards what follows; nothing else is locked under it, but beginning is before it
	now   int64      // counts what is noted, and tests
	tests []*Test    // that look now
	since int64      // what has begun later than that is owed to the last of them; 0 if nothing is
	uses  map[any]*use
	bare  map[string]int64 // statements without a user: when each place was seen first
}

// A use lasts until it is given back.
type use struct {
	began int64
	what  string
	site  string
}

// Take notes that the program has what it names by key, from the given place on. What it has already stays as it is.
func (w *Watch) Take(key any, what, site string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.uses[key] == nil {
		w.now++
		w.uses[key] = &use{w.now, what, site}
	}
}

// Move notes that the program has it by another key. If it has both, what began first stays.
func (w *Watch) Move(from, to any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	u, there := w.uses[from], w.uses[to]
	if u != nil && (there == nil || u.began < there.began) {
		w.uses[to] = u
	}
	delete(w.uses, from)
}

// Rename says anew what the program has.
func (w *Watch) Rename(key any, what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if u := w.uses[key]; u != nil {
		u.what = what
	}
}

// Give notes that the program has it no more.
func (w *Watch) Give(key any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.uses, key)
}

// Bare notes a statement without a user.
func (w *Watch) Bare(site string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bare[site] == 0 {
		w.now++
		w.bare[site] = w.now
	}
}

// A Test looks at a handle from its beginning to its end.
type Test struct {
	place *Place
	watch *Watch
	name  string
	began int64
}

// beginning guards the places: a Watch is in its place as long as it has tests. Watch.mu may be locked under it.
var beginning sync.Mutex

// Begin has a test look at a handle.
func Begin(ctx context.Context, db interface {
	Conn(context.Context) (*sql.Conn, error)
}, name string) (*Test, error) {
	place, err := PlaceOf(ctx, db)
	if err != nil {
		return nil, err
	}
	beginning.Lock()
	defer beginning.Unlock()
	w := place.Load()
	if w == nil {
		w = &Watch{uses: make(map[any]*use), bare: make(map[string]int64)}
		place.Store(w)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now++
	t := &Test{place, w, name, w.now}
	w.tests = append(w.tests, t)
	return t, nil
}

// End ends the look, and says what is left: what has begun since the test did, and is still there when it has been given
// the time to end. Of tests that look at one handle at the same time nobody can tell whose it is: the last of them says
// it for all. A test does not wait for those that it is inside of.
func (t *Test) End(patience time.Duration) []string {
	const pause = 2 * time.Millisecond
	before := t.left(nil)
	for waited := time.Duration(0); len(before) > 0 && waited < patience; waited += pause {
		time.Sleep(pause)
		before = t.left(before)
	}
	return t.leave(before)
}

// left returns the uses that the test answers for; if before is not nil, only those that were among them then.
func (t *Test) left(before map[*use]bool) map[*use]bool {
	w := t.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	found := make(map[*use]bool)
	if since, answers := t.answers(); answers {
		for _, u := range w.uses {
			if u.began > since && (before == nil || before[u]) {
				found[u] = true
			}
		}
	}
	return found
}

// answers returns since when the test answers for what has begun, if it does.
func (t *Test) answers() (since int64, ok bool) {
	alone := true
	for _, other := range t.watch.tests {
		if !t.isInside(other) {
			return 0, false
		}
		alone = alone && other == t
	}
	since = t.began
	if alone && t.watch.since > 0 {
		since = min(since, t.watch.since)
	}
	return since, true
}

func (t *Test) isInside(other *Test) bool {
	return t.name == other.name || strings.HasPrefix(t.name, other.name+"/")
}

// leave ends the look, and puts in words what is left.
func (t *Test) leave(left map[*use]bool) []string {
	beginning.Lock()
	defer beginning.Unlock()
	w := t.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	type finding struct {
		began int64
		text  string
	}
	var found []finding
	since, answers := t.answers()
	if !answers && (w.since == 0 || t.began < w.since) {
		w.since = t.began
	}
	for key, u := range w.uses {
		if left[u] {
			found = append(found, finding{u.began, fmt.Sprintf("%s; it began at %s", u.what, u.site)})
			delete(w.uses, key)
		}
	}
	for site, began := range w.bare {
		if answers && began > since {
			found = append(found, finding{began, "a statement has no user, at " + site +
				"; tag its context with dblocker.WithUser, or with dblocker.WithoutUser if it belongs to none"})
			delete(w.bare, site)
		}
	}
	w.tests = slices.DeleteFunc(w.tests, func(other *Test) bool { return other == t })
	if len(w.tests) == 0 {
		t.place.Store(nil)
	}
	slices.SortFunc(found, func(a, b finding) int { return cmp.Compare(a.began, b.began) })
	texts := make([]string, len(found))
	for i, f := range found {
		texts[i] = f.text
	}
	return texts
}
