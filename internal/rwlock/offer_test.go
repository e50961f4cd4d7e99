package rwlock_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// A txAtGate asks for the gate and for the lock of a user of its own.
type txAtGate struct{ gate, user rwlock.Hold }

func (x *txAtGate) ask(ctx context.Context, s *gateScene, kind rwlock.Kind, timeout time.Duration) error {
	x.gate.Kind, x.user.Kind = kind, kind
	return rwlock.AcquireGated(ctx, rwlock.Wait{Timeout: timeout},
		rwlock.Request{Lock: s.gate, Mode: exclusive, Hold: &x.gate},
		rwlock.Request{Table: s.users, Key: fmt.Sprintf("%p", x), Mode: exclusive, Hold: &x.user})
}

// comes reports whether one that does not wait gets the gate.
func (x *txAtGate) comes(s *gateScene, kind rwlock.Kind) bool {
	return x.ask(context.Background(), s, kind, 0) == nil
}

func (x *txAtGate) end() {
	x.user.Release()
	x.gate.Release()
}

// waits has a request wait, until it is granted or its context ends.
func (x *txAtGate) waits(ctx context.Context, s *gateScene, kind rwlock.Kind) (ended chan error) {
	ended = make(chan error, 1)
	go func() { ended <- x.ask(ctx, s, kind, long) }()
	synctest.Wait()
	return ended
}

// onOneProcessor runs a test in which who is woken runs when the test waits, and not before.
func onOneProcessor(t *testing.T, test func(s *gateScene)) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	atGate(t, test)
}

// TestTransactionPassesOneThatIsBeingWoken: others do not, nor does it pass others, nor for longer than a quarter of a
// millisecond.
func TestTransactionPassesOneThatIsBeingWoken(t *testing.T) {
	ctx := context.Background()
	for _, waiting := range []rwlock.Kind{rwlock.Tx, rwlock.Leaf, rwlock.Section} {
		for _, coming := range []rwlock.Kind{rwlock.Tx, rwlock.Leaf, rwlock.Section} {
			t.Run(fmt.Sprintf("%v, %v", waiting, coming), func(t *testing.T) {
				onOneProcessor(t, func(s *gateScene) {
					var holder, sleeper, comer txAtGate
					if !holder.comes(s, coming) {
						t.Fatal("the gate is not free")
					}
					granted := sleeper.waits(ctx, s, waiting)
					holder.end()
					want := waiting == rwlock.Tx && coming == rwlock.Tx
					if passed := comer.comes(s, coming); passed != want {
						t.Errorf("passed: %v, want %v", passed, want)
					}
					synctest.Wait() // it runs, and finds the gate taken
					comer.end()
					if err := <-granted; err != nil {
						t.Error(err)
					}
					sleeper.end()
				})
			})
		}
	}
	t.Run("not for long", func(t *testing.T) {
		onOneProcessor(t, func(s *gateScene) {
			var comer, sleeper, second txAtGate
			if !comer.comes(s, rwlock.Tx) {
				t.Fatal("the gate is not free")
			}
			granted, next := sleeper.waits(ctx, s, rwlock.Tx), second.waits(ctx, s, rwlock.Tx)
			start, passed := time.Now(), 0
			for {
				comer.end()
				if !comer.comes(s, rwlock.Tx) {
					break
				}
				passed++
				time.Sleep(50 * time.Microsecond) // others run
				if passed > 10 {
					t.Fatalf("others pass for %v", time.Since(start))
				}
			}
			if passed != 5 {
				t.Errorf("%d transactions of 50 µs have passed, want 5", passed)
			}
			if err := <-granted; err != nil {
				t.Error(err)
			}
			sleeper.end()
			if err := <-next; err != nil {
				t.Error(err)
			}
			second.end()
		})
	})
}

// TestSleeperIsNotPassedForLong, even if it does not come to run: then nobody has the gate.
func TestSleeperIsNotPassedForLong(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	s := &gateScene{users: rwlock.NewTable(), gate: rwlock.NewGate("gate")}
	var holder, sleeper, comer txAtGate
	if !holder.comes(s, rwlock.Tx) {
		t.Fatal("the gate is not free")
	}
	granted := make(chan error, 1)
	go func() { granted <- sleeper.ask(context.Background(), s, rwlock.Tx, long) }()
	for s.gate.Len() < 2 {
		runtime.Gosched()
	}
	holder.end()
	for start := time.Now(); time.Since(start) < 300*time.Microsecond; { // it has the only processor
	}
	if comer.comes(s, rwlock.Tx) {
		t.Error("a transaction has passed one that was woken 300 µs before")
		comer.end()
	}
	if err := <-granted; err != nil {
		t.Error(err)
	}
	sleeper.end()
}

// TestOfferThatIsNotTaken goes to the next: the context of the one that was woken ends before it runs.
func TestOfferThatIsNotTaken(t *testing.T) {
	onOneProcessor(t, func(s *gateScene) {
		var holder, sleeper, second, comer txAtGate
		if !holder.comes(s, rwlock.Tx) {
			t.Fatal("the gate is not free")
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancelled, granted := sleeper.waits(ctx, s, rwlock.Tx), second.waits(context.Background(), s, rwlock.Tx)
		holder.end()
		if !comer.comes(s, rwlock.Tx) { // else it would have the gate in spite of its context
			t.Fatal("it was not passed")
		}
		cancel()
		if err := <-cancelled; !errors.Is(err, context.Canceled) {
			t.Errorf("the one that was woken has ended with %v", err)
		}
		synctest.Wait()
		comer.end()
		if err := <-granted; err != nil {
			t.Error(err)
		}
		second.end()
	})
}

// TestOffersUnderLoad: nobody is forgotten, and nobody is beside another, whoever gives up.
func TestOffersUnderLoad(t *testing.T) {
	s := &gateScene{users: rwlock.NewTable(), gate: rwlock.NewGate("gate")}
	var inside, granted atomic.Int32
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range 2000 {
				ctx, cancel := context.WithTimeout(context.Background(), long)
				kind := rwlock.Tx
				switch rand.IntN(8) {
				case 0:
					kind = rwlock.Leaf
				case 1:
					time.AfterFunc(time.Duration(rand.IntN(200))*time.Microsecond, cancel)
				}
				var x txAtGate
				err := x.ask(ctx, s, kind, long)
				if err == nil {
					granted.Add(1)
					if inside.Add(1) != 1 {
						t.Error("two have the gate")
					}
					runtime.Gosched()
					inside.Add(-1)
					x.end()
				} else if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	all.Wait()
	if n := granted.Load(); n < 16*2000/2 {
		t.Errorf("only %d were granted", n)
	}
	expectIdle(t, s.gate)
	expectIdle(t, s.users)
}
