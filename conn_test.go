package dblocker

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/calmdocs/dblocker/internal/fakedriver"
	"github.com/calmdocs/dblocker/internal/rwlock"
)

// openFake opens a handle on a fake server with all optional interfaces.
func openFake(t *testing.T, s *fakedriver.Server) (*sql.DB, *Connector) {
	t.Helper()
	c, err := NewConnector(s.Connector())
	must(t, err)
	db := sql.OpenDB(c)
	t.Cleanup(func() { must(t, db.Close()) })
	return db, c
}

// returnsSoon fails the test if call hangs.
func returnsSoon(t *testing.T, what string, call func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- call() }()
	select {
	case err := <-done:
		must(t, err)
	case <-time.After(time.Minute):
		t.Errorf("%s hangs", what)
	}
}

// execBehind starts an Exec for the user of ctx and returns when it waits for the
// user's lock.
func execBehind(ctx context.Context, t *testing.T, db *sql.DB, c *Connector) (done chan error) {
	t.Helper()
	done = make(chan error, 1)
	go func() {
		_, err := db.ExecContext(ctx, "INSERT INTO t VALUES (1)")
		done <- err
	}()
	waitFor(t, func() bool {
		return slices.ContainsFunc(holdsOf(t, c), func(i rwlock.Info) bool { return i.Waiting })
	})
	return done
}

// A Result locks the connection that it came from, which by then lies in
// database/sql's pool. Who uses that connection next must not wait, under the same
// mutex, for the lock of the one who reads the Result.
func TestResultDoesNotBlockItsConnection(t *testing.T) {
	for _, limit := range []int{0, 2} {
		t.Run(fmt.Sprintf("SetMaxOpenConns(%d)", limit), func(t *testing.T) {
			db, c := openFake(t, fakedriver.NewServer(fakedriver.Full()))
			db.SetMaxOpenConns(limit)
			ann := WithUser(context.Background(), "ann")
			tx, err := db.BeginTx(ann, nil)
			must(t, err)
			res, err := db.Exec("INSERT INTO t VALUES (1)") // by nobody, on another connection
			must(t, err)
			other := execBehind(WithUser(context.Background(), "ann"), t, db, c)
			returnsSoon(t, "LastInsertId, called by the holder of the lock that the connection's next user waits for,", func() error {
				_, err := res.LastInsertId()
				return err
			})
			must(t, tx.Commit())
			must(t, <-other)
		})
	}
}

// database/sql closes statements with its pool locked, so that a Close that waited
// for a lock would stop the whole handle.
func TestStmtCloseWaitsForNothing(t *testing.T) {
	db, c := openFake(t, fakedriver.NewServer(fakedriver.Full()))
	ann := WithUser(context.Background(), "ann")
	stmt, err := db.PrepareContext(ann, "SELECT 1")
	must(t, err)
	tx, err := db.BeginTx(ann, nil)
	must(t, err)
	other := execBehind(WithUser(context.Background(), "ann"), t, db, c)
	returnsSoon(t, "Stmt.Close", stmt.Close)
	returnsSoon(t, "Ping", db.Ping)
	must(t, tx.Commit())
	must(t, <-other)
}
