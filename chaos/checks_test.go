package chaos

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/calmdocs/dblocker"
)

// at places an operation in a history.
func at(h *history, start, end int, o *op) {
	o.id, o.start, o.end, o.sawAt = newID(), time.Duration(start), time.Duration(end), time.Duration(end)
	h.ops = append(h.ops, o)
}

// TestHistoryIsJudged on what each kind of answer allows and forbids.
func TestHistoryIsJudged(t *testing.T) {
	zero := register{}
	for _, c := range []struct {
		name  string
		write outcome
		seen  bool // by a read after the write
		legal bool
	}{
		{"acknowledged and seen", acked, true, true},
		{"acknowledged and lost", acked, false, false},
		{"unanswered and seen", unknown, true, true},
		{"unanswered and not seen", unknown, false, true},
		{"rolled back and seen", failed, true, false},
		{"rolled back and not seen", failed, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHistory(true)
			write := &op{saw: &zero, writes: true, result: c.write}
			at(h, 1, 2, &op{saw: &zero})
			at(h, 3, 4, write)
			after := zero
			var j journal
			if c.seen {
				after, j = zero.then(write.id), journal{[]string{write.id}, 5}
			}
			at(h, 6, 7, &op{saw: &after})
			if violations, _ := h.judge(j); (len(violations) == 0) != c.legal {
				t.Errorf("violations: %q, want legal: %v", violations, c.legal)
			}
		})
	}
}

// TestHistoryFindsLostUpdates of two writers that read the same.
func TestHistoryFindsLostUpdates(t *testing.T) {
	h, zero := newHistory(true), register{}
	at(h, 1, 4, &op{saw: &zero, writes: true, result: acked})
	at(h, 2, 5, &op{saw: &zero, writes: true, result: acked})
	if violations, _ := h.judge(journal{}); len(violations) == 0 {
		t.Error("no violation found")
	}
}

// TestHistoryFindsLateWrites: one without an answer takes effect when its lock has
// passed on, between another's read and write.
func TestHistoryFindsLateWrites(t *testing.T) {
	for _, strict := range []bool{true, false} {
		h, zero := newHistory(strict), register{}
		late := &op{writes: true, result: unknown}
		next := &op{saw: &zero, writes: true, result: acked}
		at(h, 1, 2, late)
		at(h, 3, 4, next)
		after := zero.then(next.id)
		at(h, 6, 7, &op{saw: &after})
		if violations, _ := h.judge(journal{[]string{late.id, next.id}, 5}); (len(violations) > 0) != strict {
			t.Errorf("strict is %v, and found was %q", strict, violations)
		}
	}
}

// TestHistoryRemembersOpenWrites: one that nobody saw in its round may be seen in
// the next.
func TestHistoryRemembersOpenWrites(t *testing.T) {
	h, zero := newHistory(true), register{}
	late := &op{saw: &zero, writes: true, result: unknown}
	at(h, 1, 2, late)
	if violations, sum := h.judge(journal{}); len(violations) > 0 || sum.dropped != 1 {
		t.Fatalf("violations %q, counted %+v", violations, sum)
	}
	one := zero.then(late.id)
	at(h, 3, 4, &op{saw: &zero})
	at(h, 6, 7, &op{saw: &one})
	if violations, sum := h.judge(journal{[]string{late.id}, 5}); len(violations) > 0 || sum.resolved != 1 {
		t.Errorf("violations %q, counted %+v", violations, sum)
	}
}

// TestCallsAreJudged by the time they take and the errors they return.
func TestCallsAreJudged(t *testing.T) {
	waited := func(d time.Duration) error { return &dblocker.LockError{Waited: d, Err: dblocker.ErrLockTimeout} }
	for _, c := range []struct {
		name  string
		took  time.Duration
		err   error
		legal bool
	}{
		{"a success", time.Second, nil, true},
		{"a success after too long", bound + time.Second, nil, false},
		{"a wait up to lock_timeout", lockTimeout, waited(lockTimeout), true},
		{"a wait beyond lock_timeout", lockTimeout + 2*time.Second, waited(lockTimeout + slack + time.Second), false},
		{"an error that no fault explains", 0, errors.New("syntax error"), false},
	} {
		cs := newCalls(sqliteFault)
		late := &call{c.name, time.Now().Add(-c.took)}
		cs.running[late] = true
		if overdue := len(cs.overdue()) > 0; overdue != (c.took > bound) {
			t.Errorf("%s: overdue is %v", c.name, overdue)
		}
		cs.end(late, c.err)
		if violations := cs.take(); (len(violations) == 0) != c.legal {
			t.Errorf("%s: violations %q, want legal: %v", c.name, violations, c.legal)
		}
	}
}

// TestMonitorFindsOverlap, but not of those who may be there together.
func TestMonitorFindsOverlap(t *testing.T) {
	ended, end := context.WithCancel(t.Context())
	end()
	a, b := new(owner), new(owner)
	writer := section{user: 1, owner: a, mode: dblocker.Exclusive, ctx: t.Context()}
	for _, c := range []struct {
		name    string
		second  section
		overlap bool
	}{
		{"another owner reads", section{1, b, dblocker.Shared, t.Context(), "", time.Time{}}, true},
		{"the same owner reads", section{1, a, dblocker.Shared, t.Context(), "", time.Time{}}, false},
		{"another user's owner writes", section{2, b, dblocker.Exclusive, t.Context(), "", time.Time{}}, false},
		{"its context has ended", section{1, b, dblocker.Exclusive, ended, "", time.Time{}}, false},
		{"it may have made way", section{1, b, dblocker.Exclusive, t.Context(), "", time.Now().Add(-1)}, false},
	} {
		m := newMonitor()
		m.enter(&writer)
		m.enter(&c.second)
		if got := len(m.take()) > 0; got != c.overlap {
			t.Errorf("%s: overlap reported: %v", c.name, got)
		}
		m = newMonitor()
		m.enter(&writer)()
		m.enter(&c.second)
		if len(m.take()) > 0 {
			t.Errorf("%s: overlap reported with a section that had ended", c.name)
		}
	}
}
