package dblocker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/calmdocs/dblocker/internal/leftovers"
	"github.com/calmdocs/dblocker/internal/plain"
	"github.com/calmdocs/dblocker/internal/scope"
)

// TestErrorsOfOneCauseAreAlike: waits that end differently late have one text, and the durations are
// in the fields.
func TestErrorsOfOneCauseAreAlike(t *testing.T) {
	bubble(t, func(t *testing.T) {
		texts := make(map[string]bool)
		for _, wait := range []time.Duration{9 * time.Millisecond, 100 * time.Millisecond, 400 * time.Millisecond} {
			db := openStub(t, &stub{}, LockTimeout(wait))
			tx, err := db.BeginTx(asUser(1), nil)
			must(t, err)
			time.Sleep(10 * time.Millisecond)
			_, err = db.ExecContext(asUser(1), "UPDATE t SET v = 1")
			var e *LockError
			if !errors.As(err, &e) || e.Waited != wait || e.Blocked != wait+10*time.Millisecond {
				t.Errorf("got %#v, want a LockError with waited %v and blocked %v", err, wait, wait+10*time.Millisecond)
			}
			texts[err.Error()] = true
			must(t, tx.Rollback())
		}
		if len(texts) != 1 {
			t.Errorf("got %d texts for one cause: %v", len(texts), texts)
		}
	})
}

func TestInRound(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "less than 1s", time.Second - 1: "less than 1s", 5003 * time.Millisecond: "5s", 12 * time.Second: "10s",
		30003 * time.Millisecond: "30s", 125 * time.Second: "2m0s",
	} {
		if got := inRound(d); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
}

// TestTimeoutNamesTheWayOut: for each kind of what may be in the way.
func TestTimeoutNamesTheWayOut(t *testing.T) {
	db := openStub(t, &stub{}, LockTimeout(0))
	for name, tc := range map[string]struct {
		hold func() func()
		want string
	}{
		"transaction": {func() func() {
			tx, err := db.BeginTx(asUser(1), nil)
			must(t, err)
			return func() { tx.Rollback() }
		}, "its Tx"},
		"rows": {func() func() {
			rows, err := db.QueryContext(asUser(1), "SELECT 1")
			must(t, err)
			return func() { rows.Close() }
		}, "closed"},
		"section": {func() func() {
			_, unlock, err := Lock(asUser(1), db)
			must(t, err)
			return unlock
		}, "unlock"},
	} {
		end := tc.hold()
		_, err := db.ExecContext(asUser(1), "UPDATE t SET v = 1")
		if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "trace=on") {
			t.Errorf("%s: got %v, want an error that says %q and names trace=on", name, err, tc.want)
		}
		end()
	}
}

// TestHoldsTellRequestsApart: one that has a user's lock and waits for the next has one number for both, and no other has it,
// also if all requests come from one context that has a user.
func TestHoldsTellRequestsApart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := openStub(t, &stub{})
		base, cancel := context.WithCancel(asUser("base"))
		inOne, unlockOne, err := Lock(WithUser(base, 1), db)
		must(t, err)
		_, unlockTwo, err := Lock(WithUser(base, 2), db)
		must(t, err)
		go db.ExecContext(WithUser(inOne, 2), "UPDATE t SET v = 1")
		synctest.Wait()
		holds, err := Holds(db)
		must(t, err)
		numbers := make(map[string]uint64)
		for _, h := range holds {
			numbers[fmt.Sprint(h.User, h.Waiting)] = h.Request
		}
		one, two, waits := numbers["1false"], numbers["2false"], numbers["2true"]
		if len(holds) != 3 || one == 0 || two == 0 || one == two || waits != one {
			t.Errorf("the number of user 1's request is %d, also %d, that of user 2's is %d, in %+v", one, waits, two, holds)
		}
		cancel()
		unlockOne()
		unlockTwo()
		synctest.Wait()
	})
}

// TestHoldsAsJSON: words where Go has numbers, and what is waited for.
func TestHoldsAsJSON(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(asUser(1))
		db := openStub(t, &stub{}, MaxOpenConns(1))
		tx, err := db.BeginTx(asUser(1), nil)
		must(t, err)
		go db.ExecContext(ctx, "UPDATE t SET v = 1")
		go db.ExecContext(WithoutUser(ctx), "UPDATE t SET v = 1")
		synctest.Wait()
		time.Sleep(1500 * time.Millisecond)
		holds, err := Holds(db)
		must(t, err)
		text, err := json.Marshal(holds)
		must(t, err)
		for _, want := range []string{
			`"what":"lock","user":"1","mode":"exclusive","waiting":false,"kind":"transaction"`, `"for":"1.5s"`,
			`"what":"lock","user":"1","mode":"exclusive","waiting":true,"kind":"statement"`,
			`"what":"connection","user":"","mode":"shared","waiting":true`,
		} {
			if !strings.Contains(string(text), want) {
				t.Errorf("the JSON does not say %s:\n%s", want, text)
			}
		}
		cancel()
		must(t, tx.Rollback())
		synctest.Wait()
	})
}

// FuzzHostileNames: an error, a line of the log, what a test of a program is told and what is told of another process have nothing that a terminal would obey, whatever a user
// is called, a section or a process. Nor has JSON, and there it is what it was, or, if it is not UTF-8, still another than others.
func FuzzHostileNames(f *testing.F) {
	for _, hostile := range []string{"\x1b[2J\x1b]0;owned\a", "a\nb\r\nc", "\u009b2J", "\u202eevil\u2066", "\xff\xfe\xc3", "\x00", "\u2028\u2029", "\ufeff\u200b", "<script>alert(1)</script>", `"},{"a":"`, "\x7f"} {
		f.Add(hostile)
	}
	f.Fuzz(func(t *testing.T, hostile string) {
		p := &ProcessInfo{Session: hostile, Name: hostile, Address: hostile, State: hostile}
		inJSON, err := json.Marshal(HoldInfo{What: hostile, User: hostile, Kind: hostile, Tag: hostile, Database: hostile, BlockedBy: &HoldInfo{User: hostile}, Process: p})
		must(t, err)
		for _, text := range append(namesInTexts(t, hostile), p.String(), (&ProcessInfo{Session: hostile}).String(), string(inJSON)) {
			if i := strings.IndexFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }); i >= 0 || !utf8.ValidString(text) {
				t.Errorf("%q is shown as %q", hostile, text)
			}
		}
	})
}

// TestLongNamesAreCut: errors and lines of the log have the beginning of a long ID and of a long tag; User of a LockError has all of it.
func TestLongNamesAreCut(t *testing.T) {
	long := strings.Repeat("ü", 5000)
	for _, text := range namesInTexts(t, long) {
		if len(text) > 2500 || !strings.Contains(text, "(10000 bytes)") {
			t.Errorf("%d bytes:\n%.3000s", len(text), text)
		}
	}
	bubble(t, func(t *testing.T) {
		db := openStub(t, &stub{}, LockTimeout(time.Second))
		_, unlock, err := Lock(asUser(long), db)
		must(t, err)
		defer unlock()
		_, _, err = Lock(asUser(long), db)
		var e *LockError
		if !errors.As(err, &e) || e.User != long || len(err.Error()) > 1000 {
			t.Errorf("got %.2000v, which has %d bytes", err, len(err.Error()))
		}
	})
	for _, err := range []error{nestedExclusive(long), &UserError{long, io.EOF}, noDatabase(long, "x"), besideOwnError(scope.Ask{Users: []string{long}})} {
		if n := len(err.Error()); n > 600 {
			t.Errorf("%.100s... has %d bytes", err, n)
		}
	}
}

// namesInTexts returns what is said of a wait for a section, whose user and tag have the name.
func namesInTexts(t *testing.T, name string) (texts []string) {
	bubble(t, func(t *testing.T) {
		var log syncBuffer
		db := openStub(t, &stub{}, LockTimeout(20*time.Second), Logger(slog.New(SlogHandler(textLogger(&log).Handler()))))
		if _, err := db.ExecContext(asUser(name), "UPDATE t SET v = 1"); err != nil { // the name is no ID
			texts = append(texts, err.Error())
			return
		}
		left, err := leftovers.Begin(t.Context(), db, "test")
		must(t, err)
		ctx, unlock, err := Lock(asUser(name), db, Tag(name))
		must(t, err)
		connectorIn(t, db).logger.InfoContext(ctx, "of the program")
		_, _, err = Lock(asUser(name), db, Tag(name))
		if !errors.Is(err, ErrLockTimeout) || !strings.Contains(log.String(), "has been waiting") {
			t.Fatalf("got %v, and the log has %s", err, log.String())
		}
		holds, err2 := Holds(db)
		must(t, err2)
		inJSON, err2 := json.Marshal(holds)
		must(t, err2)
		var back []struct{ User string }
		if err := json.Unmarshal(inJSON, &back); err != nil || len(back) != 1 || back[0].User != plain.UTF8(name) || utf8.ValidString(name) && back[0].User != name {
			t.Errorf("the user %q is in JSON %s: %v", name, inJSON, err)
		}
		lines := strings.NewReplacer("\n", "", "\x7f", "").Replace(log.String()) // slog lets DEL through, which no terminal obeys
		texts = append(left.End(0), err.Error(), lines)
		if len(texts) != 3 {
			t.Errorf("the section that was not left is told as %q", texts[:len(texts)-2])
		}
		unlock()
	})
	return texts
}
