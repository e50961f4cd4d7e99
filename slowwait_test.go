package dblocker

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestLongWaitsAreLogged: on any handle, while they last, one line for a lock and five seconds, which
// says what is in the way, how many wait, and the way out.
func TestLongWaitsAreLogged(t *testing.T) {
	for _, tc := range []struct {
		name string
		ctx  func(n int) context.Context // of the n-th that waits
		opts []Option
		want []string
	}{
		{"a user's lock", func(int) context.Context { return asUser(1) }, []Option{Trace(true)},
			[]string{"waiting for 5s", `the exclusive lock of user \"1\"`, "transaction, ", "slowwait_test.go:", "has held it for 5s", "waiting=10", "its Tx"}},
		{"a connection", asUserOrNobody, []Option{MaxOpenConns(1)},
			[]string{"max_open_conns=1", "one in use, for 5s", "close rows", "waiting=10"}},
		{"the gate", asUserOrNobody, []Option{Dialect("sqlite")},
			[]string{"the gate of the SQLite database", "transaction", "trace=on", "waiting=10"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var log syncBuffer
				db := openStub(t, &stub{}, append(tc.opts, Logger(textLogger(&log)))...)
				tx, err := db.BeginTx(asUser(1), nil)
				must(t, err)
				_, err = tx.Exec("UPDATE t SET v = 1")
				must(t, err)
				for n := range 10 {
					go db.ExecContext(tc.ctx(n), "UPDATE t SET v = 1")
				}
				time.Sleep(4900 * time.Millisecond)
				if got := log.String(); strings.Contains(got, "waiting") {
					t.Errorf("before five seconds: logged %q", got)
				}
				time.Sleep(4 * time.Second)
				synctest.Wait()
				lines := strings.Count(log.String(), "has been waiting")
				if lines != 1 {
					t.Errorf("%d lines for one lock, want 1:\n%s", lines, log.String())
				}
				for _, want := range tc.want {
					if !strings.Contains(log.String(), want) {
						t.Errorf("the log does not say %s:\n%s", want, log.String())
					}
				}
				must(t, tx.Rollback())
				synctest.Wait()
			})
		})
	}
}

// asUserOrNobody is a stranger's context: of some other user, or of none.
func asUserOrNobody(n int) context.Context {
	if n%2 == 0 {
		return context.Background()
	}
	return asUser(100 + n)
}

// TestShortWaitsAreNotLogged: a wait that ends in time leaves no line.
func TestShortWaitsAreNotLogged(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var log syncBuffer
		db := openStub(t, &stub{}, Logger(textLogger(&log)))
		for range 10 {
			tx, err := db.BeginTx(asUser(1), nil)
			must(t, err)
			go db.ExecContext(asUser(1), "UPDATE t SET v = 1")
			time.Sleep(4 * time.Second)
			must(t, tx.Rollback())
		}
		time.Sleep(time.Minute)
		if got := log.String(); got != "" {
			t.Errorf("logged %q", got)
		}
	})
}

// TestLimitThatStarvesIsNamed: those who wait have all the client connections that the program allows.
func TestLimitThatStarvesIsNamed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var log syncBuffer
		db := openStub(t, &stub{}, Logger(textLogger(&log)))
		db.SetMaxOpenConns(3)
		tx, err := db.BeginTx(asUser(1), nil)
		must(t, err)
		for range 2 {
			go db.ExecContext(asUser(1), "UPDATE t SET v = 1")
		}
		synctest.Wait()
		helped := make(chan error)
		go func() { // for the transaction
			_, err := db.ExecContext(context.Background(), "UPDATE t SET v = 1")
			helped <- err
		}()
		time.Sleep(6 * time.Second)
		if got := log.String(); !strings.Contains(got, "SetMaxOpenConns") || !strings.Contains(got, "max_open_conns") {
			t.Errorf("logged %q, want the setter and the option", got)
		}
		must(t, tx.Rollback())
		must(t, <-helped)
		synctest.Wait()
	})
}
