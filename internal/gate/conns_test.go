package gate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// TestConnsCount: whatever fails or panics, Conns know how many are open, and the
// last one is closed alone.
func TestConnsCount(t *testing.T) {
	var o Conns
	ctx := context.Background()
	open := func(f func() error) (err error) {
		defer func() {
			if recover() != nil {
				err = errors.New("panic")
			}
		}()
		return o.Connect(ctx, rwlock.Wait{}, func(beside bool) error {
			if beside == o.alone {
				t.Errorf("beside another: %v, alone: %v", beside, o.alone)
			}
			return f()
		})
	}
	ok := func() error { return nil }
	must(t, open(ok))
	if open(func() error { return errors.New("no") }) == nil || open(func() error { panic("no") }) == nil {
		t.Fatal("a failure was lost")
	}
	var order []string
	closing := func(name string) func() error {
		return func() error {
			order = append(order, fmt.Sprintf("%s alone=%v", name, o.alone))
			return nil
		}
	}
	must(t, open(func() error { // while one is opened
		must(t, o.Disconnect(closing("left")))
		must(t, open(ok))
		return o.Disconnect(closing("second"))
	}))
	if err := o.Disconnect(closing("last")); err != nil {
		t.Error(err)
	}
	if got, want := strings.Join(order, ", "), "left alone=false, second alone=false, last alone=true"; got != want {
		t.Errorf("closed %s; want %s", got, want)
	}
	if o.open != 0 || o.busy != 0 || o.alone || len(o.left) != 0 {
		t.Errorf("left: %+v", &o)
	}
}

// TestFirstConnectionStaysForThoseWhoWait: those who have waited for the first connection are opened
// beside it, also if it is closed before they come to run: else each would be the first again, and
// the last.
func TestFirstConnectionStaysForThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const waiting = 3
		var o Conns
		w := rwlock.Wait{Timeout: time.Minute}
		ctx, cancel := context.WithCancel(t.Context())
		var order []string
		var wg sync.WaitGroup
		must(t, o.Connect(t.Context(), w, func(bool) error {
			for range waiting {
				wg.Go(func() {
					must(t, o.Connect(t.Context(), w, func(beside bool) error {
						if !beside {
							t.Error("one that waited is opened as the first")
						}
						return nil
					}))
				})
			}
			wg.Go(func() {
				if err := o.Connect(ctx, w, func(bool) error { return nil }); !errors.Is(err, context.Canceled) {
					t.Errorf("the wait of one who gives up ended with %v", err)
				}
			})
			synctest.Wait()
			cancel()
			synctest.Wait()
			return nil
		}))
		must(t, o.Disconnect(func() error { order = append(order, "first"); return nil }))
		wg.Wait()
		if o.open != waiting || o.busy != 0 || o.alone || len(o.left) != 0 || len(order) != 1 {
			t.Errorf("%d waited, and then there were %+v; closed: %v", waiting, &o, order)
		}
	})
}

// TestGivingUpBesideTheFirstConnection: one who gives up when the first connection has just been
// opened is not counted, and closes what was left to those who are opened beside it.
func TestGivingUpBesideTheFirstConnection(t *testing.T) {
	var o Conns
	alone, wait := o.tryEnter()
	if !alone || wait != nil {
		t.Fatal("the first connection is not opened alone")
	}
	_, wait = o.tryEnter()
	o.leave(true, 1)
	closed := false
	must(t, o.Disconnect(func() error { closed = true; return nil }))
	if closed {
		t.Error("the first connection is closed while another is opened")
	}
	o.stopWaiting(wait)
	if !closed || o.open != 0 || o.busy != 0 || o.alone || len(o.left) != 0 {
		t.Errorf("closed: %v; left: %+v", closed, &o)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
