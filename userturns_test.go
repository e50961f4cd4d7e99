package dblocker

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestUsersTakeTurnsForConnections: all connections are in use by slow reads of one user, and
// many more of them wait. A stranger waits for one of them to end.
func TestUsersTakeTurnsForConnections(t *testing.T) {
	for name, many := range map[string]func() context.Context{
		"of a user":      func() context.Context { return asUser("many") },
		"without a user": context.Background,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				db := openStub(t, &stub{run: func(_ context.Context, query string) error {
					if query == "SELECT slow" {
						time.Sleep(time.Second)
					}
					return nil
				}}, MaxOpenConns(5))
				defer db.Close()
				slow := make(chan time.Time)
				for range 40 {
					go func() {
						rows, err := db.QueryContext(many(), "SELECT slow")
						if err != nil {
							t.Error(err)
						} else {
							rows.Close()
						}
						slow <- time.Now()
					}()
				}
				synctest.Wait()
				start := time.Now()
				rows, err := db.QueryContext(asUser("stranger"), "SELECT 1")
				must(t, err)
				rows.Close()
				if waited := time.Since(start); waited != time.Second {
					t.Errorf("a stranger waited %v, want as long as one read lasts, 1s", waited)
				}
				var last time.Time
				for range 40 {
					last = <-slow
				}
				if took := last.Sub(start); took != 8*time.Second {
					t.Errorf("40 reads of 1s on 5 connections took %v, want 8s", took)
				}
			})
		})
	}
}
