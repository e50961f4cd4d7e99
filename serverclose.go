package dblocker

//lint:file-ignore SA1019 database/sql still obeys the deprecated interfaces of older drivers, and so do we.

import (
	"context"
	"database/sql/driver"

	"github.com/calmdocs/dblocker/internal/server"
)

// heed returns err, and looks whether it makes connections suspect.
func (sc *serverConn) heed(err error) error {
	if err != nil && sc.trust != nil && sc.suspect(err) {
		sc.trust.Add(1)
	}
	return err
}

func (sc *serverConn) isSuspect() bool { return sc.trust != nil && sc.trust.Load() != sc.madeAt }

// ResetSession implements [driver.SessionResetter], for the inner pool. See reset.
func (sc *serverConn) ResetSession(context.Context) error {
	if sc.isSuspect() {
		return driver.ErrBadConn
	}
	return nil
}

// reset resets the session of a connection that comes from the inner pool. It is not for that
// to call: it would lose count of the connection if the driver panicked.
func (sc *serverConn) reset(ctx context.Context) (err error) {
	if sc.isSuspect() {
		return driver.ErrBadConn
	}
	r, ok := sc.ci.(driver.SessionResetter)
	if !ok {
		return nil
	}
	if sc.cfg.contain(func() { err = r.ResetSession(ctx) }) != nil {
		return driver.ErrBadConn
	}
	return err
}

// IsValid implements [driver.Validator], for the inner pool. See validate.
func (sc *serverConn) IsValid() bool { return !sc.broken && !sc.isSuspect() }

// validate is asked before the connection goes back to the inner pool, for the reason that
// reset is called after it has come from there. What is not valid is broken.
func (sc *serverConn) validate() (valid bool) {
	v, ok := sc.ci.(driver.Validator)
	if !ok || !sc.IsValid() {
		return sc.IsValid()
	}
	was := sc.broken
	sc.broken = true // also if the driver ends the goroutine
	sc.cfg.contain(func() { valid = v.IsValid() })
	sc.broken = was || !valid
	return !sc.broken
}

// lost tells whether the connection can no longer be used, so that how its
// session fares is to be learned from the server only. It must not be asked while
// rows are open.
func (sc *serverConn) lost() bool {
	if sc.session == (server.Session{}) {
		return false
	}
	if sc.isClosed != nil {
		return sc.isClosed()
	}
	v, ok := sc.ci.(driver.Validator)
	return ok && !v.IsValid()
}

// goHome returns a borrowed connection, unless it is bad.
func (sc *serverConn) goHome() error {
	if sc.broken {
		sc.home.Raw(func(any) error { return driver.ErrBadConn })
	}
	return sc.home.Close()
}

// Close implements [driver.Conn], for the inner pool, which would go on to count the connection
// if the driver panicked.
func (sc *serverConn) Close() (err error) {
	if sc.closed {
		return nil
	}
	if thrown := server.Apart(sc.cfg.logger, func() { err = sc.shut() }); thrown != nil {
		return thrown
	}
	return err
}

// shut closes the connection. The second time it does nothing. A panic of the driver is an error.
func (sc *serverConn) shut() (err error) {
	if sc.closed {
		return nil
	}
	sc.closed = true
	if panicked := sc.cfg.contain(func() { err = sc.close() }); panicked != nil {
		return panicked
	}
	return err
}

func (sc *serverConn) close() error {
	defer sc.attachments.closed(sc)
	if sc.home != nil {
		return sc.goHome()
	}
	if sc.cfg.dialect.stmtsOutliveConns {
		sc.cache.clear()
	}
	if sc.sqlite != nil {
		sc.sqlite.LetGo()
	}
	return sc.conns.Disconnect(sc.closeInner)
}

// closeInner may be called for another connection, which had to wait for this one.
func (sc *serverConn) closeInner() (err error) {
	if panicked := sc.cfg.contain(func() { err = sc.ci.Close() }); panicked != nil {
		return panicked
	}
	return err
}
