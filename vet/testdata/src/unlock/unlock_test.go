package unlock

import (
	"context"
	"database/sql"
	"testing"

	"github.com/calmdocs/dblocker"
)

func TestDiscarded(t *testing.T) {
	var db *sql.DB
	ctx, _, err := dblocker.TryLock(context.Background(), db) // which a test may want to fail
	if err == nil {
		t.Error(ctx)
	}
	_, unlock, err := dblocker.Lock(ctx, db) // want `unlock, which ends what Lock begins, is not used on the way to line 19`
	if t.Failed() {
		return
	}
	unlock()
}
