package rwlock_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// refusedAfter lets a request wait for d in vain and returns the error.
func refusedAfter(t *testing.T, d time.Duration, l locker, mode rwlock.Mode) *rwlock.WaitError {
	t.Helper()
	err := l(t.Context(), mode, new(rwlock.Hold), rwlock.Wait{Timeout: d})
	var werr *rwlock.WaitError
	if !errors.As(err, &werr) || !errors.Is(err, rwlock.ErrTimeout) {
		t.Fatalf("error %v, want a *WaitError for %v", err, rwlock.ErrTimeout)
	}
	return werr
}

func TestErrorNamesTheHoldInTheWay(t *testing.T) {
	eachLocker(t, func(t *testing.T, s *scene, l locker) {
		var owner rwlock.Owner
		h := rwlock.Hold{Owner: &owner, Kind: rwlock.Tx, Label: rwlock.Tagged("import files")}
		if err := try(l, exclusive, &h); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		time.Sleep(time.Minute)
		got := *refusedAfter(t, 2*time.Second, l, shared)
		if !got.Blocker.Since.Equal(start) {
			t.Errorf("blocker since %v, want %v", got.Blocker.Since, start)
		}
		text := got.Error()
		got.Blocker.Since = time.Time{}
		form := rwlock.Keyed
		if strings.HasSuffix(t.Name(), "/lock") {
			form = rwlock.Single
		}
		want := rwlock.WaitError{
			Key: "k", Mode: shared, Form: form, Waited: 2 * time.Second, Err: rwlock.ErrTimeout,
			Blocker: rwlock.Info{
				Key: "k", Mode: exclusive, Form: form, Kind: rwlock.Tx, Tag: "import files", Owner: &owner, For: 62 * time.Second,
			},
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %#v\nwant %#v", got, want)
		}
		const wantText = `lock timeout: shared lock of "k" not granted after 2s: ` +
			`transaction "import files" has held it for 1m2s (exclusive)`
		if text != wantText {
			t.Errorf("got  %s\nwant %s", text, wantText)
		}
		h.Release()
	})
}

func TestErrorNamesTheOldestHolder(t *testing.T) {
	eachLocker(t, func(t *testing.T, s *scene, l locker) {
		r1 := s.ask("r1", shared, l)
		r2 := s.ask("r2", shared, l)
		r3 := s.ask("r3", shared, l)
		r1.release()
		if got := refusedAfter(t, 0, l, exclusive).Blocker; got.Tag != "r2" || got.Waiting {
			t.Errorf("blocker %v, want the holder r2", got)
		}
		r2.release()
		r3.release()
	})
}

func TestErrorNamesTheEarlierWaiter(t *testing.T) {
	eachLocker(t, func(t *testing.T, s *scene, l locker) {
		reader := s.ask("reader", shared, l)
		writer := s.ask("writer", exclusive, l)
		time.Sleep(5 * time.Second)
		werr := refusedAfter(t, time.Second, l, shared)
		if got := werr.Blocker.String(); got != `statement "writer" has waited for it for 6s (exclusive)` {
			t.Errorf("blocker: %s", got)
		}
		reader.release()
		writer.release()
	})
}

func TestErrorOfSeveralNamesTheOldestInTheWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := rwlock.NewTable()
		for _, key := range []string{"b", "a", "c"} { // the oldest is neither the first nor the last to be asked for
			h := rwlock.Hold{Kind: rwlock.Section, Label: rwlock.Tagged("holder of " + key)}
			if err := try(keyOf(table, key), shared, &h); err != nil {
				t.Fatal(err)
			}
			defer h.Release()
			time.Sleep(time.Second)
		}
		var a, b, c rwlock.Hold
		err := rwlock.AcquireAll(t.Context(), rwlock.Wait{Timeout: time.Second},
			rwlock.Request{Table: table, Key: "a", Mode: exclusive, Hold: &a},
			rwlock.Request{Table: table, Key: "b", Mode: exclusive, Hold: &b},
			rwlock.Request{Table: table, Key: "c", Mode: exclusive, Hold: &c})
		var werr *rwlock.WaitError
		if !errors.As(err, &werr) || werr.Key != "b" || werr.Blocker.Tag != "holder of b" || werr.Blocker.For != 4*time.Second {
			t.Errorf("got %v, want that b was held for 4s", err)
		}
	})
}

// A statement reads no clock until somebody waits for it; everything else does.
func TestStartOfAHold(t *testing.T) {
	eachLocker(t, func(t *testing.T, s *scene, l locker) {
		for kind := rwlock.Leaf; kind <= rwlock.Section; kind++ {
			h := rwlock.Hold{Kind: kind}
			if err := try(l, shared, &h); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * time.Second)
			want := 8 * time.Second
			if kind == rwlock.Leaf {
				want = 5 * time.Second
			}
			if got := refusedAfter(t, 5*time.Second, l, exclusive).Blocker.For; got != want {
				t.Errorf("%v: the waiter was told that it has lasted %v, want %v", kind, got, want)
			}
			h.Release()
		}
	})
}

func TestSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, table := &scene{t: t}, rwlock.NewTable()
		var requests []*request
		for _, r := range []struct {
			name, key string
			mode      rwlock.Mode
		}{{"1", "b", shared}, {"2", "a", exclusive}, {"3", "b", shared}, {"4", "b", exclusive}, {"5", "a", shared}, {"6", "b", shared}, {"7", "c", shared}} {
			requests = append(requests, s.ask(r.name, r.mode, keyOf(table, r.key)))
		}
		time.Sleep(time.Second)
		got := ""
		for _, i := range table.Snapshot() {
			if got += i.Key + i.Tag; i.Waiting {
				got += "?"
			}
			if i.Since.IsZero() != (i.Key == "c") { // for c, nobody waits
				t.Errorf("start of %v: %v", i, i.Since)
			}
			got += " "
		}
		if want := "a2 a5? b1 b3 b4? b6? c7 "; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		for _, r := range requests {
			r.giveUp()
			r.release()
		}
		expectIdle(t, table)
	})
}

func TestNames(t *testing.T) {
	for got, want := range map[string]string{
		rwlock.Shared.String():    "shared",
		rwlock.Exclusive.String(): "exclusive",
		rwlock.Leaf.String():      "statement",
		rwlock.Rows.String():      "rows",
		rwlock.Tx.String():        "transaction",
		rwlock.Session.String():   "session",
		rwlock.Section.String():   "section",
		rwlock.Kind(99).String():  "unknown",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
