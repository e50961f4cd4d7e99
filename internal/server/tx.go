package server

//lint:file-ignore SA1019 database/sql still obeys the deprecated interfaces of older drivers, and so do we.

import (
	"context"
	"database/sql/driver"
	"errors"
	"reflect"
	"time"

	"github.com/calmdocs/dblocker/internal/drivers"
)

// BeginTx implements [driver.ConnBeginTx].
func (sc *Conn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	return sc.BeginLate(ctx, ctx, opts)
}

// BeginLate is BeginTx in a later call with ctx, for a transaction that was begun with the context of.
func (sc *Conn) BeginLate(ctx, of context.Context, opts driver.TxOptions) (driver.Tx, error) {
	tx, err := sc.begin(ctx, opts)
	if err != nil {
		return nil, err
	}
	sc.TxLevel, sc.TxSent = opts.Isolation, false
	return &serverTx{tx, sc, of}, nil
}

func (sc *Conn) begin(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	if sc.isDue() {
		if err := sc.doDue(ctx); err != nil {
			return nil, err
		}
	}
	sc.calls.note()
	if begin := sc.cfg.Engine.Begin; begin != nil {
		return begin(ctx, sc, opts)
	}
	if b, ok := sc.ci.(driver.ConnBeginTx); ok {
		return b.BeginTx(ctx, opts)
	}
	if opts.Isolation != 0 {
		return nil, errors.New("sql: driver does not support non-default isolation level")
	}
	if opts.ReadOnly {
		return nil, errors.New("sql: driver does not support read-only transactions")
	}
	tx, err := sc.ci.Begin()
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		tx.Rollback()
		return nil, err
	}
	return tx, nil
}

// serverTx is a transaction of the inner driver.
type serverTx struct {
	driver.Tx
	sc  *Conn
	ctx context.Context // of its Begin
}

// Rollback also does what database/sql does when the transaction's context has
// ended: it goes on to use the connection only if the driver can both reset and
// validate it.
func (tx *serverTx) Rollback() error {
	if tx.ctx.Err() != nil {
		_, resets := tx.sc.ci.(driver.SessionResetter)
		_, validates := tx.sc.ci.(driver.Validator)
		tx.sc.broken = tx.sc.broken || !resets || !validates
	}
	tx.sc.calls.note()
	return tx.Tx.Rollback()
}

func (tx *serverTx) Commit() error {
	tx.sc.calls.note()
	return tx.Tx.Commit()
}

// Doubt makes the connection doubtful: it may be in a transaction of which nothing has told.
func (sc *Conn) Doubt() { sc.doubtful = true }

func (sc *Conn) IsDoubtful() bool { return sc.doubtful }

// KnowsTx tells whether the inner driver knows if the session is in a transaction.
func (sc *Conn) KnowsTx() bool { return sc.tellsTx != nil }

// IsInTx tells what it knows.
func (sc *Conn) IsInTx() bool {
	sc.calls.note()
	return sc.tellsTx()
}

// InTransaction tells whether the session is in a transaction, or has autocommit turned off, so that
// the next statement begins one; as far as that is known.
func (sc *Conn) InTransaction() (in, known bool) {
	autocommit := sc.cfg.Engine.Autocommit
	switch {
	case sc.tellsTx != nil:
		return sc.IsInTx(), true
	case autocommit != nil && sc.IsDoubtful(): // else the texts have told
		return !autocommit(sc), true
	}
	return false, !sc.IsDoubtful()
}

// leaveTransaction makes sure that whoever draws the connection next is in nobody's transaction.
func (sc *Conn) leaveTransaction() {
	if in, known := sc.InTransaction(); (in || !known) && sc.IsUsable() {
		sc.MustClose()
	}
}

// IsUsable tells whether it is worth while to give the connection back. What the inner driver knows of the transaction of one that
// is lost is what was so before.
func (sc *Conn) IsUsable() bool {
	return sc.IsValid() && !sc.isShut()
}

// isShut tells whether the inner driver has given the connection up. While rows are open, some say so of a good one.
func (sc *Conn) isShut() (shut bool) {
	if sc.IsClosed != nil {
		return sc.IsClosed()
	}
	v, ok := sc.ci.(driver.Validator)
	if !ok || sc.open != nil {
		return false
	}
	sc.calls.note()
	shut = true // also if the driver panics, or ends the goroutine
	sc.cfg.contain(func() { shut = !v.IsValid() })
	return shut
}

// MustClose has the connection closed when it goes back.
func (sc *Conn) MustClose() {
	if !sc.HasFailed() {
		sc.Fail()
		sc.cfg.Logger.Warn("dblocker: a connection went back to the pool perhaps inside a transaction, or with tables locked, and was closed; end what a statement begins on the same sql.Conn, or use BeginTx")
	}
}

// tellsTxFrom finds out how a connection, which may be wrapped by others, tells of its
// transaction; nil if it does not.
func tellsTxFrom(d *Engine, ci driver.Conn) func() bool {
	if d.TellsTx == nil {
		return nil
	}
	const maxWrappers = 5
	v := reflect.ValueOf(ci)
	for range maxWrappers {
		if tells := d.TellsTx(v); tells != nil {
			return tells
		}
		if v = drivers.Wrapped(v); !v.IsValid() {
			break
		}
	}
	return nil
}

// AskTx lets the server tell anew after an error, if the error does not. It reports false if the
// connection is of no use any more.
func (sc *Conn) AskTx() bool {
	if !sc.cfg.Engine.AsksTx {
		return true
	}
	const patience = 5 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return sc.Ping(ctx) == nil
}
