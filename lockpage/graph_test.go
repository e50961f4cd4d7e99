package lockpage

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/calmdocs/dblocker"
)

func has(request uint64, user string, ages ...time.Duration) dblocker.HoldInfo {
	h := dblocker.HoldInfo{What: "lock", User: user, Request: request, Mode: dblocker.Exclusive, Kind: "section", For: time.Minute}
	if user == "gate" {
		h.What, h.User = "gate", ""
	}
	return h
}

func wants(request uint64, user string) dblocker.HoldInfo {
	h := has(request, user)
	h.Waiting, h.For = true, time.Second
	return h
}

// outline writes a graph as one line: each node with those that wait for it in brackets.
func outline(nodes []*node) string {
	var all []string
	for _, n := range nodes {
		text := ""
		switch {
		case n.wants.What != "" && n.has.What != "":
			text = n.has.title() + "+" + n.wants.title()
		case n.wants.What != "":
			text = "?" + n.wants.title()
		default:
			text = n.has.title()
		}
		if len(n.waiters) > 0 {
			text += "(" + outline(n.waiters) + ")"
		}
		if n.hidden > 0 {
			text += fmt.Sprintf("…%d", n.hidden)
		}
		all = append(all, strings.ReplaceAll(strings.ReplaceAll(text, "user ", ""), "the ", ""))
	}
	return strings.Join(all, " ")
}

// TestWhoWaitsForWhom has the picture of each situation, as an outline.
func TestWhoWaitsForWhom(t *testing.T) {
	holds := func(all ...dblocker.HoldInfo) []dblocker.HoldInfo { return all }
	many := holds(has(1, "a"))
	for i := range 20 {
		many = append(many, wants(uint64(i+2), "a"))
	}
	chain := holds(has(1, "u0"))
	for i := range 20 {
		chain = append(chain, has(uint64(i+2), fmt.Sprint("u", i+1)), wants(uint64(i+2), fmt.Sprint("u", i)))
	}
	other := has(0, "a")
	other.Kind, other.Process = "process", &dblocker.ProcessInfo{Session: "7"}
	for _, c := range []struct {
		name  string
		holds []dblocker.HoldInfo
		want  string
	}{
		{"nobody waits", holds(has(1, "a"), has(2, "b")), ""},
		{"one waits", holds(has(1, "a"), wants(2, "a"), has(3, "b")), "a(?a)"},
		{"two trees, the larger first", holds(has(1, "a"), wants(2, "a"), has(3, "b"), wants(4, "b"), wants(5, "b")), "b(?b ?b) a(?a)"},
		{"who has one and wants the next", holds(has(1, "a"), has(2, "b"), wants(2, "a"), wants(3, "b")), "a(b+a(?b))"},
		{"an upgrade beside another reader", holds(has(1, "a"), has(2, "a"), wants(1, "a")), "a(?a)"},
		{"a user's lock that is free, and the gate that is not", holds(has(1, "gate"), has(1, "a"), wants(2, "b"), wants(2, "gate")), "gate(?gate)"},
		{"one that waits for what nobody has any more", holds(wants(1, "a")), "?a"},
		{"another process", holds(other, wants(1, "a"), wants(2, "a")), "a(?a ?a)"},
		{"of no request", holds(has(0, "a"), wants(0, "a"), wants(0, "a")), "a(?a ?a)"},
		{"the lock of all users", holds(has(1, ""), wants(2, "")), "all users(?all users)"},
		{"a circle", holds(has(1, "a"), wants(1, "b"), has(2, "b"), wants(2, "a")), "a+b(b+a)"},
		{"a circle with a tail", holds(has(1, "a"), wants(1, "b"), has(2, "b"), wants(2, "a"), wants(3, "a")), "a+b(b+a ?a)"},
		{"many", many, "a(?a ?a ?a ?a ?a ?a)…14"},
		{"a long chain", chain, "u0(u1+u0(u2+u1(u3+u2(u4+u3(u5+u4…15)))))"},
	} {
		l := link(c.holds)
		g := draw(l.nodes)
		missing := g.missing
		g.describe(new(Page))
		if got := outline(g.roots); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if drawn := g.drawnAfter(); g.waiting-missing != drawn {
			t.Errorf("%s: %d wait, and %d are said to be missing, but %d are drawn", c.name, g.waiting, missing, drawn)
		}
	}
}

// drawnAfter is drawn when the holds are forgotten.
func (g *graph) drawnAfter() (n int) {
	var count func(all []*node)
	count = func(all []*node) {
		for _, d := range all {
			if d.wants.What != "" {
				n++
			}
			count(d.waiters)
		}
	}
	count(g.roots)
	return n
}

// crowd is so many users' locks, held, and so many that wait for some of them.
func crowd(held, waiting int) []dblocker.HoldInfo {
	holds := make([]dblocker.HoldInfo, 0, held+waiting)
	for i := range held {
		holds = append(holds, has(uint64(i+1), fmt.Sprint("user-", i)))
	}
	for i := range waiting {
		holds = append(holds, wants(uint64(held+i+1), fmt.Sprint("user-", i%300)))
	}
	return holds
}

// TestCrowdIsBounded: with 100,000 holds and 10,000 waits the page has some hundred kilobytes, and says how many more there are.
func TestCrowdIsBounded(t *testing.T) {
	holds := crowd(100_000, 10_000)
	page := new(Page)
	v := page.viewOf(&dblocker.Statistics{Held: 100_000, Waiting: 10_000}, holds)
	view := &View{Databases: []DatabaseView{v}}
	text := string(renderPage(view, false))
	if len(text) > 300<<10 {
		t.Errorf("the page has %d bytes", len(text))
	}
	if n := strings.Count(text, `<svg class="box`); n == 0 || n > 2*2*mostRows {
		t.Errorf("%d boxes are drawn", n)
	}
	for _, want := range []string{thousands(99_900) + " more holds", thousands(9_900) + " more waits", thousands(int64(v.graph.missing)) + " more wait</b>"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if v.graph.waiting != 10_000 || v.graph.missing < 9_900 || v.graph.missing >= 10_000 {
		t.Errorf("%d wait, %d of them are not drawn", v.graph.waiting, v.graph.missing)
	}
}

// BenchmarkView draws a small and a large view.
func BenchmarkView(b *testing.B) {
	for _, c := range [][2]int{{60, 20}, {100_000, 10_000}} {
		holds := crowd(c[0], c[1])
		b.Run(fmt.Sprint(c[0], "held"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				v := new(Page).viewOf(&dblocker.Statistics{}, holds)
				newFrame(&View{Databases: []DatabaseView{v}}, nil)
			}
		})
	}
}
