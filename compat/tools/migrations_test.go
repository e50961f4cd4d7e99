package tools

import (
	"context"
	"sync"
	"testing"

	"github.com/calmdocs/dblocker"
)

// TestMigrationsAtOnce: several processes, or several parts of one, may migrate when they start. In LockAll they take turns, on every
// engine, whatever the tool does itself.
func TestMigrationsAtOnce(t *testing.T) { // without a look at goroutines: golang-migrate leaves one behind a migration that fails
	for name, up := range map[string]func(context.Context, *target) error{
		"goose":          gooseUp,
		"golang-migrate": func(_ context.Context, to *target) error { return migrateUp(to) },
	} {
		for _, e := range engines {
			t.Run(name+"/"+e.name, func(t *testing.T) {
				t.Parallel()
				bare := newTarget(t, e, false, false)
				for _, err := range atOnce(4, func() error { return up(t.Context(), bare) }) {
					t.Log("bare:", err)
				}
				locked := newTarget(t, e, true, false)
				for _, err := range atOnce(4, func() error { return inLockAll(t.Context(), locked, up) }) {
					t.Error(err)
				}
				if _, err := locked.handle.Exec("INSERT INTO accounts (id, cents) VALUES (1, 2)"); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func inLockAll(ctx context.Context, to *target, up func(context.Context, *target) error) error {
	ctx, unlock, err := dblocker.LockAll(ctx, to.handle)
	if err != nil {
		return err
	}
	defer unlock()
	return up(ctx, to)
}

// atOnce runs a function several times at once, and returns the errors.
func atOnce(n int, f func() error) (errs []error) {
	var wg sync.WaitGroup
	var mu sync.Mutex // guards errs
	for range n {
		wg.Go(func() {
			if err := f(); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
		})
	}
	wg.Wait()
	return errs
}
