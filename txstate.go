package dblocker

import (
	"context"
	"database/sql/driver"
	"reflect"
	"time"

	"github.com/calmdocs/dblocker/internal/drivers"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// noteMayBegin makes the server connection doubtful if the statement, which was executed or has failed,
// may have begun a transaction among other things. Of engines that we do not know, statements
// such as EXEC, of which any may, are too common to give up a connection for each.
func (c *conn) noteMayBegin(st sqltext.Statement) {
	if sc := c.drawn.sc; sc != nil && st.MayBegin {
		saysSo := st.Multi || st.LocksTables || st.Verb == "SET" || st.Verb == "XA" || st.Verb == "BEGIN"
		sc.doubtful = sc.doubtful || saysSo || c.db.dialect != generic
	}
}

// inTransaction tells whether the session is in a transaction, or has autocommit turned off, so that
// the next statement begins one; as far as that is known.
func (sc *serverConn) inTransaction() (in, known bool) {
	autocommit := sc.cfg.dialect.autocommit
	switch {
	case sc.tellsTx != nil:
		return sc.tellsTx(), true
	case autocommit != nil && sc.doubtful: // else the texts have told
		return !autocommit(sc), true
	}
	return false, !sc.doubtful
}

// leaveTransaction makes sure that whoever draws the connection next is in nobody's transaction.
func (sc *serverConn) leaveTransaction() {
	if in, known := sc.inTransaction(); (in || !known) && sc.isUsable() {
		sc.mustClose()
	}
}

func (sc *serverConn) isUsable() bool {
	return sc.IsValid() && (sc.isClosed == nil || !sc.isClosed())
}

// mustClose has the connection closed when it goes back.
func (sc *serverConn) mustClose() {
	if !sc.broken {
		sc.broken = true
		sc.cfg.logger.Warn("dblocker: a connection went back to the pool perhaps inside a transaction, or with tables locked, and was closed; end what a statement begins on the same sql.Conn, or use BeginTx")
	}
}

// tellsTxFrom finds out how a connection, which may be wrapped by others, tells of its
// transaction; nil if it does not.
func tellsTxFrom(d *dialect, ci driver.Conn) func() bool {
	if d.tellsTx == nil {
		return nil
	}
	const maxWrappers = 5
	v := reflect.ValueOf(ci)
	for range maxWrappers {
		if tells := d.tellsTx(v); tells != nil {
			return tells
		}
		if v = drivers.Wrapped(v); !v.IsValid() {
			break
		}
	}
	return nil
}

// askTx lets the server tell anew after an error, if the error does not. It reports false if the
// connection is of no use any more.
func (sc *serverConn) askTx() bool {
	if !sc.cfg.dialect.asksTx {
		return true
	}
	const patience = 5 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return sc.Ping(ctx) == nil
}
