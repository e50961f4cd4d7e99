package server

//lint:file-ignore SA1019 database/sql still obeys the deprecated interfaces of older drivers, and so do we.

import (
	"context"
	"database/sql/driver"
	"time"
)

// NoteError returns err, and looks whether it makes connections suspect.
func (sc *Conn) NoteError(err error) error {
	if err != nil && sc.trust != nil && sc.suspect(err) {
		sc.trust.Add(1)
	}
	return err
}

func (sc *Conn) IsSuspect() bool { return sc.trust != nil && sc.trust.Load() != sc.madeAt }

// IsOutdated tells of an error whether a new connection may do what was asked, of which nothing was done: see
// Engine.IsOutdated.
func (sc *Conn) IsOutdated(err error) bool {
	isOutdated := sc.cfg.Engine.IsOutdated
	return err != nil && isOutdated != nil && isOutdated(sc, err)
}

// ResetSession implements [driver.SessionResetter], for the inner pool. See Reset.
func (sc *Conn) ResetSession(context.Context) error {
	if sc.IsSuspect() {
		return driver.ErrBadConn
	}
	return nil
}

// Reset resets the session of a connection that comes from the inner pool. It is not for that
// to call: it would lose count of the connection if the driver panicked.
func (sc *Conn) Reset(ctx context.Context) (err error) {
	if sc.IsSuspect() {
		return driver.ErrBadConn
	}
	r, ok := sc.ci.(driver.SessionResetter)
	if !ok {
		return nil
	}
	sc.calls.note()
	if sc.cfg.contain(func() { err = r.ResetSession(ctx) }) != nil {
		return driver.ErrBadConn
	}
	return err
}

// IsValid implements [driver.Validator], for the inner pool. See Validate.
func (sc *Conn) IsValid() bool {
	valid := !sc.broken && !sc.IsSuspect()
	if sc.lies {
		sc.lies = false
		sc.LieDown()
	}
	return valid
}

// Validate is asked before the connection goes back to the inner pool, for the reason that
// Reset is called after it has come from there. What is not valid is broken.
func (sc *Conn) Validate() (valid bool) {
	v, ok := sc.ci.(driver.Validator)
	if !ok || !sc.IsValid() {
		return sc.IsValid()
	}
	sc.calls.note()
	was := sc.broken
	sc.broken = true // also if the driver ends the goroutine
	sc.cfg.contain(func() { valid = v.IsValid() })
	sc.broken = was || !valid
	return !sc.broken
}

// IsLost tells whether the connection can no longer be used, so that how its
// session fares is to be learned from the server only. It must not be asked while
// rows are open.
func (sc *Conn) IsLost() bool {
	if sc.Session == (Session{}) {
		return false
	}
	if sc.IsClosed != nil {
		return sc.IsClosed()
	}
	sc.calls.note()
	v, ok := sc.ci.(driver.Validator)
	return ok && !v.IsValid()
}

// goHome returns a borrowed connection, unless it is bad.
func (sc *Conn) goHome() error {
	if sc.broken {
		sc.home.Raw(func(any) error { return driver.ErrBadConn })
	}
	return sc.home.Close()
}

// Close implements [driver.Conn], for the inner pool, which would go on to count the connection
// if the driver panicked.
func (sc *Conn) Close() (err error) {
	if p := sc.passing; p != nil {
		p.end()
	}
	if sc.closed {
		return nil
	}
	if thrown := apart(sc.cfg.Logger, func() { err = sc.shut() }); thrown != nil {
		return thrown
	}
	return err
}

// shut closes the connection. The second time it does nothing. A panic of the driver is an error.
func (sc *Conn) shut() (err error) {
	if sc.closed {
		return nil
	}
	sc.forgetRest()
	sc.LoseKept()
	sc.cache.tell(0)
	sc.closed = true
	if told := sc.cfg.Closed; told != nil && !sc.born.IsZero() {
		defer func() { told(time.Since(sc.born)) }()
	}
	if panicked := sc.cfg.contain(func() { err = sc.close() }); panicked != nil {
		return panicked
	}
	return err
}

func (sc *Conn) close() (err error) {
	if sc.host != nil {
		defer sc.host.Closed(sc)
	}
	if sc.home != nil {
		return sc.goHome()
	}
	defer func() { err = sc.disconnect() }() // also if the driver ends the goroutine as it closes a statement
	if sc.cfg.Engine.StmtsOutliveConns {
		sc.cache.clear()
	}
	return nil
}

func (sc *Conn) disconnect() error {
	if sc.host != nil {
		sc.host.Closing()
	}
	if sc.counted {
		return sc.host.Disconnect(sc.closeInner)
	}
	return sc.closeInner()
}

// closeInner may be called for another connection, which had to wait for this one.
func (sc *Conn) closeInner() (err error) {
	sc.calls.note()
	if panicked := sc.cfg.contain(func() { err = sc.ci.Close() }); panicked != nil {
		return panicked
	}
	return err
}
