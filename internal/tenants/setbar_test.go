package tenants

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// TestBar: who wants a barred database waits for the end, and has another one than those who had it before.
func TestBar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, open := newSet(0)
		before := open(t, "x")
		there, end, err := s.Bar(t.Context(), "x", nil, patience)
		if err != nil || there != before {
			t.Fatalf("got %p, %v; want the one that is open, %p", there, err, before)
		}
		s.Leave(there)
		if s.Get("x") != nil {
			t.Error("somebody got it")
		}
		later := make(chan *Entry[string, *db])
		go func() { later <- open(t, "x") }()
		synctest.Wait()
		select {
		case <-later:
			t.Error("somebody opened it")
		default:
		}
		end()
		if e := <-later; e == before {
			t.Error("who has waited got the old one")
		} else {
			s.Leave(e)
		}
		s.Leave(before)
		synctest.Wait()
		if !before.On.closed.Load() {
			t.Error("the old one is open, with no user")
		}
		s.Close()
	})
}

// TestBarAwaitsWhatIsUnderWay: who opens the database is waited for, and so is what closes it; no longer than the context, or the timeout.
func TestBarAwaitsWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSet[string, *slowDB](Limits{}, "", func(f func()) { f() })
		goOn := make(chan bool)
		taken := make(chan *Entry[string, *slowDB])
		go func() {
			e, err := s.Take(t.Context(), "x", Taking[*slowDB]{Keep: true, Wait: patience, Open: func(context.Context) (*slowDB, error) {
				<-goOn
				return &slowDB{closes: goOn}, nil
			}})
			if err != nil {
				t.Error(err)
			}
			taken <- e
		}()
		synctest.Wait()
		tryInVain := func(while string) {
			t.Helper()
			if _, _, err := s.Bar(t.Context(), "x", nil, rwlock.Wait{Timeout: time.Second}); err != rwlock.ErrTimeout {
				t.Errorf("while it is being %s: %v", while, err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, _, err := s.Bar(ctx, "x", nil, patience); err != context.Canceled {
				t.Errorf("while it is being %s, with a context that has ended: %v", while, err)
			}
		}
		tryInVain("opened")
		goOn <- true
		e := <-taken
		s.Leave(e) // which closes it, since it is not kept for any time
		tryInVain("closed")
		barred := make(chan func())
		go func() {
			there, end, err := s.Bar(t.Context(), "x", nil, patience)
			if err != nil || there != nil {
				t.Errorf("got %v, %v", there, err)
			}
			barred <- end
		}()
		synctest.Wait()
		goOn <- true
		(<-barred)()
	})
}

var patience = rwlock.Wait{Timeout: time.Minute}

// A slowDB is closed when it is told so.
type slowDB struct{ closes chan bool }

func (d *slowDB) Close() error { <-d.closes; return nil }
func (d *slowDB) Refuse()      {}
