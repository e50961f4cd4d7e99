package dblocker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
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
