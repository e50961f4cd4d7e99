package server

import (
	"context"
	"database/sql/driver"
	"testing"

	"github.com/calmdocs/dblocker/internal/fakedriver"
)

// TestRollbackMendsNoConnection: a connection that is broken for another reason stays so when a transaction is rolled back by its
// context, also with a driver that could reset it.
func TestRollbackMendsNoConnection(t *testing.T) {
	ci, err := fakedriver.NewServer(fakedriver.Full()).Connector().Connect(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	sc := NewConn(ci, &Config{Engine: new(Engine)})
	defer sc.Close()
	tx, err := sc.BeginTx(ctx, driver.TxOptions{})
	if err != nil {
		t.Fatal(err)
	}
	sc.Fail()
	cancel()
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if sc.IsValid() {
		t.Error("a broken connection is taken for valid after a rollback")
	}
}
