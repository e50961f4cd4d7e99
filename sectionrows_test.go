package dblocker

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/calmdocs/dblocker/internal/fakedriver"
)

// TestSectionEndKeepsOffRowsInUse: rows are open on a sql.Conn by a context from outside, and a
// transaction is begun there inside a section. The end of the section ends both, but not in
// the middle of a call of the rows.
func TestSectionEndKeepsOffRowsInUse(t *testing.T) {
	server := fakedriver.NewServer(fakedriver.Full())
	var inNext atomic.Bool
	began, goOn := make(chan bool), make(chan bool)
	server.Hook = func(_ int, method string) error {
		switch method {
		case "rows.Next", "rows.NextRow": // the latter since Go 1.27
			inNext.Store(true)
			began <- true
			<-goOn
			inNext.Store(false)
		case "rows.Close", "tx.Rollback":
			if inNext.Load() {
				t.Errorf("%s in the middle of rows.Next", method)
			}
		}
		return nil
	}
	db, err := OpenDB(server.Connector())
	must(t, err)
	defer db.Close()
	conn, err := db.Conn(context.Background())
	must(t, err)
	defer conn.Close()
	rows, err := conn.QueryContext(context.Background(), "SELECT v FROM t")
	must(t, err)
	defer rows.Close()
	ctx, unlock := beginTest(t, Lock, asUser(1), db)
	tx, err := conn.BeginTx(ctx, nil)
	must(t, err)
	defer tx.Rollback()

	next := make(chan bool)
	go func() { next <- rows.Next() }()
	<-began
	unlock()
	close(goOn)
	if !<-next {
		t.Errorf("the row that was being read is lost: %v", rows.Err())
	}
	if !isFree(t, db, 1) {
		t.Error("the lock did not pass on when the call of the rows returned")
	}
}
