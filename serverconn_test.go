package dblocker

import (
	"context"
	"database/sql/driver"
	"testing"

	"github.com/calmdocs/dblocker/internal/engines"
	"github.com/calmdocs/dblocker/internal/fakedriver"
	"github.com/calmdocs/dblocker/internal/server"
)

// A connection that is broken for another reason stays so when a transaction is rolled back by its
// context, also with a driver that could reset it.
func TestRollbackMendsNoConnection(t *testing.T) {
	ci, err := fakedriver.NewServer(fakedriver.Full()).Connector().Connect(context.Background())
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	sc := server.NewConn(ci, &server.Config{Engine: engines.Generic})
	defer sc.Close()
	tx, err := sc.BeginTx(ctx, driver.TxOptions{})
	must(t, err)
	sc.Fail()
	cancel()
	must(t, tx.Rollback())
	if sc.IsValid() {
		t.Error("a broken connection is taken for valid after a rollback")
	}
}
