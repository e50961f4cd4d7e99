//go:build race

package server

import (
	"context"
	"database/sql/driver"
	"strings"
	"testing"

	"github.com/calmdocs/dblocker/internal/fakedriver"
)

// TestEachCallIsNoted for the race detector: calls of a statement, rows, a transaction, and those that the pool makes, too.
func TestEachCallIsNoted(t *testing.T) {
	s := fakedriver.NewServer(fakedriver.Full())
	sc := connTo(t, s)
	noted := sc.calls.n
	s.Hook = func(_ int, method string) error {
		if strings.HasPrefix(method, "rows.Column") || strings.HasPrefix(method, "connector.") {
			return nil // which may be beside others, or is no connection's
		}
		if sc.calls.n == noted {
			t.Errorf("%s is not noted", method)
		}
		noted = sc.calls.n
		return nil
	}
	ctx := context.Background()
	must(t, sc.Ping(ctx))
	_, err := sc.ExecContext(ctx, "UPDATE t SET v = 1", nil)
	must(t, err)
	read := func(r *Rows) {
		must(t, r.Next(make([]driver.Value, len(r.Columns()))))
		r.HasNextResultSet()
		must(t, r.NextResultSet())
		must(t, r.Close())
		r.TakeOff()
	}
	r := new(Rows)
	must(t, sc.Query(ctx, &Call{Query: "SELECT v FROM t"}, r))
	read(r)
	ss, err := sc.PrepareStmt(ctx, "SELECT v FROM t")
	must(t, err)
	ss.Inputs()
	_, err = ss.ExecContext(ctx, nil)
	must(t, err)
	must(t, ss.QueryInto(ctx, nil, r))
	read(r)
	must(t, ss.Close())
	for _, end := range []func(driver.Tx) error{driver.Tx.Commit, driver.Tx.Rollback} {
		tx, err := sc.BeginTx(ctx, driver.TxOptions{})
		must(t, err)
		must(t, end(tx))
	}
	must(t, sc.Inner().(driver.Pinger).Ping(ctx))
	must(t, sc.Reset(ctx))
	sc.Validate()
	sc.IsUsable()
	must(t, sc.shut())
}
