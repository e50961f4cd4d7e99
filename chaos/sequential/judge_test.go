package sequential

import (
	"strings"
	"testing"
)

// TestOrderIsJudged: what the search for an order allows, and what it does not.
func TestOrderIsJudged(t *testing.T) {
	add := func(name string, at int) *op { return &op{kind: insert, name: name, at: at, n: 1} }
	drop := func(name string) *op { return &op{kind: remove, name: name, at: 1} }
	at := func(call, end int64, o *op, r result) called { return called{op: o, call: call, end: end, result: r} }
	id := func(n int64) result { return result{rows: 1, id: n} }
	sees := func(e entry) result { return result{read: state{log: [entries]entry{e}}} }
	look := &op{kind: read, name: "r", at: 1}
	two := &op{kind: inTx, name: "tx", commit: true, steps: []op{*add("s1", 1), *add("s2", 2)}}
	both := result{steps: "1 rows, id 2; 1 rows, id 3"}
	left := at(1, 2, add("a", 1), result{})
	left.left = true
	for _, c := range []struct {
		name    string
		calls   []called
		journal string // who has written, or "-" and what was dropped
		wrong   string
	}{
		{"one after the other", []called{at(1, 2, add("a", 1), id(2)), at(3, 4, add("b", 2), id(3))}, "a b", ""},
		{"not in the order of their calls", []called{at(1, 4, add("a", 1), id(3)), at(2, 3, add("b", 2), id(2))}, "b a", ""},
		{"after one that began later", []called{at(1, 2, add("a", 1), id(3)), at(3, 4, add("b", 2), id(2))}, "b a", "none that could"},
		{"another's id", []called{at(1, 4, add("a", 1), id(3)), at(1, 4, add("b", 2), id(2))}, "a b", "was told"},
		{"lost", []called{at(1, 2, add("a", 1), id(2))}, "", "nowhere"},
		{"failed and done", []called{at(1, 2, add("a", 1), fails("full"))}, "a", "was told"},
		{"failed", []called{at(1, 4, add("a", 1), id(2)), at(1, 4, add("b", 1), fails("unique"))}, "a", ""},
		{"another's failure", []called{at(1, 4, add("a", 1), id(2)), at(1, 4, add("b", 2), fails("unique"))}, "a", "nowhere"},
		{"twice", []called{at(1, 2, add("a", 1), id(2))}, "a a", ""}, // of one call: a trigger for each row
		{"twice, with others between", []called{at(1, 9, add("a", 1), id(2)), at(1, 9, add("b", 2), id(3))}, "a b a", "none that could"},
		{"a stale read", []called{at(1, 2, add("a", 1), id(2)), at(3, 4, look, result{})}, "a", "nowhere"},
		{"a read beside a write", []called{at(1, 4, add("a", 1), id(2)), at(2, 3, look, sees(entry{2, 1}))}, "a", ""},
		{"a read of what comes later", []called{at(3, 4, add("a", 1), id(2)), at(1, 2, look, sees(entry{2, 1}))}, "a", "none that could"},
		{"cancelled, and not done", []called{left}, "", ""},
		{"cancelled, and done later", []called{left, at(3, 4, look, result{}), at(6, 7, again(look), sees(entry{2, 1}))}, "a", ""},
		{"dropped by the one that was told so", []called{at(1, 2, add("a", 1), id(2)), at(3, 5, drop("x"), ok(0)), at(3, 6, drop("y"), ok(1))}, "a -who_1", ""},
		{"dropped by two", []called{at(1, 2, add("a", 1), id(2)), at(3, 5, drop("x"), ok(1)), at(3, 6, drop("y"), ok(1))}, "a -who_1", "nowhere"},
		{"a transaction", []called{at(1, 2, two, both)}, "tx s1 s2 tx", ""},
		{"half a transaction", []called{at(1, 2, two, both)}, "tx s1", "half"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var journal []row
			for _, word := range strings.Fields(c.journal) {
				if dropped, ok := strings.CutPrefix(word, "-"); ok {
					journal = append(journal, row{dropped: strings.ReplaceAll(dropped, "_", " ")})
				} else {
					journal = append(journal, row{did: word})
				}
			}
			_, err := judge(empty, c.calls, journal)
			switch {
			case c.wrong == "" && err != nil:
				t.Error(err)
			case c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)):
				t.Errorf("found %v, want %q", err, c.wrong)
			}
		})
	}
}

// again is another call of the same.
func again(o *op) *op {
	other := *o
	return &other
}
