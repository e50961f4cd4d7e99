package server

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"runtime"
	"sync"
	"sync/atomic"
)

// An innerPool has the server connections of an open handle, in a sql.DB. But to make one and
// to close it is a good part of what a handle on a SQLite file costs that is opened for one
// request. So there the first connection is at first outside of it: the lone one. When a second is
// wanted, or the sql.DB is, that is made, and the lone one moves in.
type innerPool struct {
	connector *Connector
	limits    Limits

	made atomic.Pointer[sql.DB] // nil while there is none; set while mu is held

	mu     sync.Mutex // guards what follows; no connection is opened or closed under it
	lone   *Conn      // nil if it is not open, or has moved
	out    bool       // it is drawn, or is being opened
	home   *sql.Conn  // what it is in the sql.DB, if it was drawn when it moved; else nil
	closed bool       // while there was no sql.DB

	shelf shelf
}

// db returns the sql.DB.
func (ip *innerPool) db() *sql.DB {
	if db := ip.made.Load(); db != nil {
		return db
	}
	ip.mu.Lock()
	defer ip.mu.Unlock()
	if ip.made.Load() == nil {
		ip.made.Store(ip.makeDB())
	}
	return ip.made.Load()
}

func (ip *innerPool) makeDB() *sql.DB {
	var connector driver.Connector = ip.connector
	if ip.closed {
		connector = struct{ driver.Connector }{connector} // which is not closed a second time
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(ip.limits.MaxOpenConns)
	db.SetMaxIdleConns(ip.limits.MaxIdleConns)
	db.SetConnMaxLifetime(ip.limits.ConnMaxLifetime)
	db.SetConnMaxIdleTime(ip.limits.ConnMaxIdleTime)
	if ip.lone != nil {
		ip.connector.opened.Store(ip.lone)
		home, _ := db.Conn(context.Background()) // there is no other, so this takes what was opened
		if ip.lone = nil; ip.out {
			ip.home = home
		} else {
			home.Close()
		}
	}
	if ip.closed {
		db.Close()
	}
	return db
}

// draw takes out a connection: the lone one, or one of the sql.DB. See Pool.ConnectFor.
func (ip *innerPool) draw(ctx context.Context, user string) (Lease, error) {
	if err := ctx.Err(); err != nil {
		return Lease{}, err
	}
	sc, ok := ip.takeLone()
	switch {
	case !ok:
		return ip.drawFromDB(ctx, user)
	case sc == nil:
		return ip.openLone(ctx)
	case !sc.IsValid(): // by now
		ip.putLone(sc)
		return ip.draw(ctx, user)
	}
	return Lease{pool: ip, lone: true, Conn: sc}, nil
}

// drawFromDB takes one of the sql.DB, or of the shelf. Where their number is limited, it waits for no
// connection in the sql.DB while one lies on the shelf.
func (ip *innerPool) drawFromDB(ctx context.Context, user string) (Lease, error) {
	sc := ip.take(user)
	if sc == nil && ip.shelf.awaitPassing(ctx) {
		sc = ip.take(user) // if it is not in the sql.DB
	}
	if sc == nil && ip.isCrowded() {
		sc = ip.shelf.await(ctx)
	}
	if sc != nil {
		return Lease{pool: ip, Conn: sc}, nil
	}
	if ip.limits.MaxOpenConns > 0 {
		ip.shelf.wants()
		defer ip.shelf.wantsNoMore()
	}
	conn, err := ip.db().Conn(ctx)
	if err != nil {
		return Lease{}, err
	}
	d := Lease{pool: ip}
	if err := conn.Raw(func(dc any) error { d.Conn = dc.(*Conn); return nil }); err != nil {
		conn.Close()
		return Lease{}, err
	}
	ip.come(d.Conn, conn)
	return d, nil
}

// take takes one of the shelf, if there is one.
func (ip *innerPool) take(user string) *Conn {
	isLeft := ip.connector.Config.IsLeft
	if isLeft == nil {
		return ip.shelf.take()
	}
	for range handOvers {
		if sc := ip.shelf.takeFor(user); sc != nil {
			return sc
		} else if user == "" || !isLeft(user) {
			break
		}
		runtime.Gosched()
	}
	return ip.shelf.takeAny()
}

// handOvers is how often a call looks for the connection that has the lock of its user, which the call before has left there, and is just
// about to give back.
const handOvers = 20

// come notes that a connection was drawn from the sql.DB.
func (ip *innerPool) come(sc *Conn, conn *sql.Conn) {
	sc.inDB, sc.shelfRound = conn, ip.shelf.round.Load()
}

// isCrowded tells whether so many connections to a local database are in use that one more would come
// to nothing but to wait for a processor.
func (ip *innerPool) isCrowded() bool {
	if !ip.connector.IsLocal || ip.limits.MaxOpenConns > 0 || ip.shelf.isWanted() {
		return false
	}
	st := ip.db().Stats()
	return st.Idle == 0 && st.InUse >= 2+2*runtime.GOMAXPROCS(0)
}

// putBack ends drawFromDB.
func (ip *innerPool) putBack(sc *Conn) {
	if !ip.shelf.put(sc) {
		sc.toDB()
	}
}

// takeLone takes out the lone connection, if it is to be had. If it is nil, the caller is to open it.
func (ip *innerPool) takeLone() (sc *Conn, ok bool) {
	if ip.made.Load() != nil {
		return nil, false
	}
	ip.mu.Lock()
	defer ip.mu.Unlock()
	if ip.made.Load() != nil || ip.out || ip.closed {
		return nil, false
	}
	ip.out = true
	return ip.lone, true
}

func (ip *innerPool) openLone(ctx context.Context) (Lease, error) {
	var ci driver.Conn
	defer func() {
		if ci == nil { // also when the inner driver ends the goroutine
			ip.putLone(nil)
		}
	}()
	ci, err := ip.connector.Connect(ctx)
	if err != nil {
		return Lease{}, err
	}
	sc := ci.(*Conn)
	if ip.keepLone(sc) {
		return Lease{pool: ip, lone: true, Conn: sc}, nil
	}
	defer ip.putLone(nil)
	ip.connector.opened.Store(sc)
	defer ip.connector.closeOpened() // the sql.DB had another
	return ip.drawFromDB(ctx, "")
}

// keepLone makes sc, which is drawn, the lone connection, unless there is a sql.DB by now.
func (ip *innerPool) keepLone(sc *Conn) bool {
	ip.mu.Lock()
	defer ip.mu.Unlock()
	if ip.made.Load() != nil {
		return false
	}
	ip.lone = sc
	return true
}

// opensLone tells whether there is a connection, or one is being opened, that the sql.DB does not count yet.
func (ip *innerPool) opensLone() bool {
	ip.mu.Lock()
	defer ip.mu.Unlock()
	return ip.out && ip.lone == nil && ip.home == nil
}

// putLone ends what takeLone has begun. sc is nil if it could not be opened.
func (ip *innerPool) putLone(sc *Conn) {
	ip.mu.Lock()
	home := ip.home
	stays := home == nil && !ip.closed && sc != nil && sc.IsValid()
	if ip.out, ip.home = false, nil; !stays {
		ip.lone = nil
	}
	ip.mu.Unlock()
	switch {
	case home != nil:
		ip.come(sc, home)
		ip.putBack(sc)
	case !stays && sc != nil:
		sc.Close()
	}
}

// close closes all connections, those that are drawn when they are given back.
func (ip *innerPool) close() (err error) {
	ip.shelf.close()
	sc, db := ip.end()
	if db != nil {
		return db.Close()
	}
	defer func() { err = cmp.Or(ip.connector.Close(), err) }()
	if sc != nil {
		return sc.shut() // here no sql.DB would lose count if the driver ended the goroutine
	}
	return nil
}

// end keeps the lone connection from being drawn again, and returns it if it is not drawn now; or
// the sql.DB, if there is one.
func (ip *innerPool) end() (sc *Conn, db *sql.DB) {
	ip.mu.Lock()
	defer ip.mu.Unlock()
	if db := ip.made.Load(); db != nil {
		return nil, db
	}
	if ip.closed = true; !ip.out {
		sc, ip.lone = ip.lone, nil
	}
	return sc, nil
}
