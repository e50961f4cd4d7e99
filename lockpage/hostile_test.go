package lockpage

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/plain"
)

// hostileView has a text wherever one from outside can be.
func hostileView(s string) *View {
	page := new(Page)
	holds := []dblocker.HoldInfo{
		{What: "lock", User: s, Mode: dblocker.Exclusive, Kind: "section", Tag: s + " at " + s + "/x.go:12", Request: 1, For: time.Minute},
		{What: "lock", User: "7", Mode: dblocker.Exclusive, Kind: "section", Tag: s, Request: 2, For: time.Minute},
		{What: "lock", User: s, Mode: dblocker.Shared, Waiting: true, Kind: "statement", Tag: s, Request: 2, For: time.Second},
		{What: "lock", User: "7", Mode: dblocker.Shared, Waiting: true, Kind: "statement", Tag: s + "y.go:1", Request: 3, For: time.Second},
		{What: "lock", User: "8", Kind: "process", Process: &dblocker.ProcessInfo{Session: s, Name: s, Address: s, State: s}},
		{What: "gate", Mode: dblocker.Exclusive, Kind: "transaction", Tag: s, Request: 4, For: time.Second},
		{What: "gate", Mode: dblocker.Exclusive, Waiting: true, Kind: "statement", Tag: s, Request: 5, For: time.Second},
		{What: "gate", Mode: dblocker.Exclusive, Kind: "transaction", Database: nameOf(s), Request: 6, For: time.Second},
		{What: "database", Mode: dblocker.Exclusive, Waiting: true, User: s, Database: nameOf(s), Kind: "statement", Request: 7, For: time.Second},
	}
	d := page.database(s)
	observe := page.Observe(s)
	now := time.Unix(1_800_000_000, 0)
	observe(dblocker.Event{Kind: dblocker.EventDeadlock, Time: now, Circle: holds, User: s, Tag: s})
	observe(dblocker.Event{Kind: dblocker.EventWaitEnded, Time: now, Duration: time.Minute, User: s, Tag: s, What: "lock", Held: "section", Outcome: dblocker.OutcomeTimeout})
	observe(dblocker.Event{Kind: dblocker.EventHoldLong, Time: now, Duration: time.Minute, User: s, Tag: s, What: "lock", Held: "section"})
	observe(dblocker.Event{Kind: dblocker.EventWaitEnded, Time: now, Duration: time.Hour, User: s, What: "process", Held: "statement", Outcome: dblocker.OutcomeFailed})
	observe(dblocker.Event{Kind: dblocker.EventHoldLong, Time: now, Duration: time.Hour, User: s, What: "lock", Held: "process", Blocker: &dblocker.HoldInfo{Kind: "process", Process: &dblocker.ProcessInfo{Session: s, Name: s, Address: s, State: s}}})
	observe(dblocker.Event{Kind: dblocker.EventLockLost, Time: now, User: s, What: "process", Held: "section"})
	observe(dblocker.Event{Kind: dblocker.EventDatabaseOpened, Time: now, User: s})
	observe(dblocker.Event{Kind: dblocker.EventDatabaseOpened, Time: now, User: s, Err: errors.New(s)})
	observe(dblocker.Event{Kind: dblocker.EventBatch, Time: now, Count: 17, Duration: 18 * time.Second})
	observe(dblocker.Event{Kind: dblocker.EventSync, Time: now, Duration: 19 * time.Second})
	observe(dblocker.Event{Kind: dblocker.EventSessionLost, Time: now})
	d.view = page.viewOf(&dblocker.Statistics{Held: 1, Waiting: 1, Batches: 1, Syncs: 1, Databases: dblocker.DatabaseStatistics{Opened: 1}, Statements: dblocker.StatementStatistics{Hits: 1}}, holds)
	d.view.gate.exists = true
	v := &View{Time: now, Program: s, PID: 1, Databases: []DatabaseView{d.seenView(now), {Name: s, Error: s}}}
	v.Databases[0].Error = s
	return v
}

var hostile = []string{
	`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `'><svg/onload=alert(1)>`, "`${alert(1)}`", `]]><!--`, `--><script>`, `</title></svg></td></table>`,
	"a\nb\r\nc\rd", "data: x\n\nevent: reload\n\n", "\x1b[2J\x1b]0;owned\x07", "\u009b2J", "\u202eevil\u2066", "\xff\xfe\xc3", "\x00", "\u2028\u2029\u0085", "\ufeff\u200b\u2060\U000e0041",
	`{"a":1}`, `\u003cscript\u003e`, `&lt;b&gt; &amp;`, `{{.}}`, `%s%n`, "😀👩‍👩‍👧", "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘!͖̬̰̙̗̿̋ͥͥ̂ͣ̐́́͜͞", "שלום", strings.Repeat("w", 10_000), strings.Repeat("<", 5000),
}

// FuzzHostile: user IDs, tags and the like are shown, and are nothing but text: in the page, in its pictures, in events and in JSON.
func FuzzHostile(f *testing.F) {
	for _, s := range hostile {
		f.Add(s)
	}
	known := make(map[string]bool)
	for _, harmless := range []string{"x", "", "x.go:1", "x at x.go:1"} {
		maps.Copy(known, tagsOf(string(renderPage(hostileView(harmless), false))))
	}
	f.Fuzz(func(t *testing.T, s string) {
		v := hostileView(s)
		text := string(renderPage(v, false))
		for tag := range tagsOf(text) {
			if !known[tag] {
				t.Errorf("the text %q makes a tag: %s", s, tag)
			}
		}
		if n := strings.Count(text, "<script"); n != 1 {
			t.Errorf("the text %q makes %d scripts", s, n)
		}
		checkSeen(t, text)
		checkEvent(t, newFrame(v, nil).since(nil), len(panels)*2+1)
		w := httptest.NewRecorder()
		serveJSON(w, v)
		checkSeen(t, strings.ReplaceAll(w.Body.String(), "\n", ""))
		var back struct{ Databases []struct{ Holds []Hold } }
		if err := json.Unmarshal(w.Body.Bytes(), &back); err != nil {
			t.Fatalf("the JSON for %q: %v", s, err)
		}
		if got := back.Databases[0].Holds[0].User; utf8.ValidString(s) && got != limited(s, 1000) {
			t.Errorf("the JSON has %q for user %q", got, s)
		}
	})
}

// TestJSONIsReadBack into a View, and has what the page has.
func TestJSONIsReadBack(t *testing.T) {
	v := hostileView("x")
	w := httptest.NewRecorder()
	serveJSON(w, v)
	text := w.Body.String()
	var back View
	must(t, json.Unmarshal(w.Body.Bytes(), &back))
	again := httptest.NewRecorder()
	serveJSON(again, &back)
	if again.Body.String() != text {
		t.Errorf("got back\n%s\nof\n%s", again.Body, text)
	}
	for _, want := range []string{`"most_in_batch": 17`, `"longest_batch": "18s"`, `"longest_sync": "19s"`, `"sessions_lost": 1`, `"locks_lost": 1`, `"failed": 1`, `"waiting_at_gate": 1`, `"newest": [`} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %s in\n%s", want, text)
		}
	}
	if text := get(new(Page), "/?format=json").Body.String(); !strings.Contains(text, `"databases": []`) {
		t.Errorf("without databases: %s", text)
	}
	page := new(Page)
	page.Add("none", nil)
	page.Add("idle", openSQLite(t))
	if text := get(page, "/?format=json").Body.String(); strings.Count(text, `"holds": []`) != 2 || strings.Contains(text, "null") {
		t.Errorf("without holds: %s", text)
	}
}

// TestBytesOfUsersAreSeen: two users whose IDs are not UTF-8 are two.
func TestBytesOfUsersAreSeen(t *testing.T) {
	page := new(Page)
	db := openSQLite(t)
	page.Add("app", db)
	s := newScene(t, db)
	for _, user := range []string{"\xff", "\xfe", "\ufffd"} {
		s.holds(user, "tag "+user)
		s.wants(s.ctx, user, "")
	}
	for path, backslash := range map[string]string{"/": `\`, "/?format=json": `\\`} {
		text := get(page, path).Body.String()
		for _, want := range []string{"xff", "xfe"} {
			if !strings.Contains(text, backslash+want) || !strings.Contains(text, "tag "+backslash+want) {
				t.Errorf("%s does not show the user, or the tag, %s", path, want)
			}
		}
	}
}

// tagsOf returns the tags of the page's HTML, without the values of attributes, but with addresses.
func tagsOf(text string) map[string]bool {
	tags := make(map[string]bool)
	for _, piece := range strings.Split(text, "<")[1:] {
		tag, _, ended := strings.Cut(piece, ">")
		if !ended {
			tag = piece
		}
		tags[value.ReplaceAllString(tag, `$1=""`)] = true
	}
	return tags
}

var value = regexp.MustCompile(`(^|[^cf])="[^"]*"`) // but of src and href

// checkSeen fails the test for what is not seen, or is a command to a terminal.
func checkSeen(t *testing.T, text string) {
	t.Helper()
	if !utf8.ValidString(text) {
		t.Error("it is not UTF-8")
	}
	for _, r := range text {
		if plain.IsUnseen(r) {
			t.Errorf("there is a %U in it", r)
			return
		}
	}
}

// checkEvent fails the test unless it is one event with one line of data, which has so many parts.
func checkEvent(t *testing.T, event []byte, parts int) {
	t.Helper()
	data, ok := bytes.CutPrefix(event, []byte("data: "))
	data, end := bytes.CutSuffix(data, []byte("\n\n"))
	if !ok || !end || bytes.ContainsAny(data, "\r\n") {
		t.Errorf("not one event of one line: %q", event)
	}
	checkSeen(t, string(data))
	var frame struct{ Parts map[string]string }
	if err := json.Unmarshal(data, &frame); err != nil || len(frame.Parts) != parts {
		t.Errorf("%d parts, error %v, want %d", len(frame.Parts), err, parts)
	}
}

// TestUsersCanBeHidden: with Users neither the page nor its JSON has an ID, also in what is remembered of events.
func TestUsersCanBeHidden(t *testing.T) {
	const id = "secret-of-user"
	for name, users := range map[string]func(string) string{"hidden": HideUsers, "hashed": HashUsers(), "panic": func(string) string { panic("x") }} {
		page := &Page{Users: users}
		db := openSQLite(t, dblocker.Observe(page.Observe("app")))
		page.Add("app", db)
		s := newScene(t, db)
		s.holds(id, "tag")
		s.wants(s.ctx, id, "tag")
		s.deadlock(id+"1", id+"2")
		s.until(func() bool { return len(page.view().Databases[0].Deadlocks) == 1 })
		for _, path := range []string{"/", "/?format=json"} {
			if text := get(page, path).Body.String(); strings.Contains(text, id) || !strings.Contains(text, "tag") {
				t.Errorf("%s: %s has the ID, or not the tag:\n%s", name, path, text)
			}
		}
		s.end()
	}
	hash := HashUsers()
	if a, again := hash("a"), hash("a"); a != again || a == hash("b") || hash("a") == HashUsers()("a") {
		t.Error("hashes do not tell users apart, or tell the ID by itself")
	}
}
