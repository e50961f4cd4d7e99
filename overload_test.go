//go:build !race

// The race detector's cost of a mutex grows with the number of goroutines.

package dblocker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestServerThatHangs: thousands of calls wait for a server that does not answer. A call whose
// context ends meanwhile returns, and all are served soon after the server is back.
func TestServerThatHangs(t *testing.T) {
	const users, conns = 2500, 80
	isBack := make(chan struct{})
	var hanging atomic.Int32
	db := openStub(t, &stub{run: func(context.Context, string) error { hanging.Add(1); <-isBack; return nil }},
		MaxOpenConns(conns), SelfWait(300*time.Millisecond)) // so they look often whether they wait in vain
	var working sync.WaitGroup
	for i := range users {
		for range 2 {
			working.Go(func() {
				if _, err := db.ExecContext(asUser(fmt.Sprint(i)), "UPDATE t"); err != nil {
					t.Error(err)
				}
			})
		}
	}
	waitFor(t, func() bool { return hanging.Load() >= conns })
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
		ctx, cancel := context.WithTimeout(asUser("stranger"), 100*time.Millisecond)
		start := time.Now()
		if _, err := db.ExecContext(ctx, "UPDATE t"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a call to a server that hangs: %v", err)
		}
		cancel()
		if took := time.Since(start); took > time.Second {
			t.Errorf("a call with a context of 100ms took %v", took)
		}
	}
	start := time.Now()
	close(isBack)
	working.Wait()
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("%d calls were served %v after the server was back, want within 5s", 2*users, took)
	}
}
