package dblocker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	maxIdleShards = 16
	shardIdleTime = time.Minute
)

// shards are the databases of a Store whose users have different ones.
type shards struct {
	// find says which database a user has. It may take its time.
	find    func(ctx context.Context, user string) (found, error)
	timeout time.Duration   // of the wait for it
	done    <-chan struct{} // closed with the Store

	mu      sync.Mutex // guards what follows, and the fields of the elements
	users   map[string]*shardUser
	byKey   map[any]*shard
	closing map[*shard]chan struct{} // those that are being closed, of byKey no more; closed when they are
	opening map[any]chan struct{}    // those that are being opened, of byKey not yet; closed when they are
	idle    []*shard                 // of byKey, without users, the longest idle first
	closed  bool
}

// found is a database by its key, a *sql.DB or a DSN, and how to make it one of ours if
// the key is new; that does not connect.
type found struct {
	key  any
	open func() (*storeDB, error)
}

// A shard is a database that is open. It has users, or is in shards.idle.
type shard struct {
	key   any
	on    *storeDB
	users int
	timer *time.Timer // while it is idle
}

// A shardUser is a user in use: connecting until ready is closed, and then with a shard
// or an error. It is in shards.users while it has refs, unless it has an error. If
// nobody is left while it is connecting, it stays until that is done, so that a function
// that hangs is not called again and again.
type shardUser struct {
	refs   int
	left   bool // by all, while it was connecting
	cancel context.CancelFunc
	ready  chan struct{}
	shard  *shard
	err    error
}

func newShards(done <-chan struct{}, cfg *config, driverName, dsn string, opts []Option) *shards {
	ss := &shards{done: done, timeout: cfg.lockTimeout, users: make(map[string]*shardUser), byKey: make(map[any]*shard), closing: make(map[*shard]chan struct{}), opening: make(map[any]chan struct{})}
	if ss.timeout == 0 { // no wait for locks, but this is none
		ss.timeout = 2 * time.Minute
	}
	ss.find = func(ctx context.Context, user string) (found, error) {
		if cfg.connect == nil {
			dsn, err := cfg.shardDSN(ctx, user)
			return found{dsn, func() (*storeDB, error) { return openStoreDB(driverName, dsn, opts) }}, err
		}
		db, err := cfg.connect(ctx, user, driverName, dsn)
		switch {
		case err != nil:
			return found{}, err
		case db == nil || db.DB == nil:
			return found{}, fmt.Errorf("dblocker: ConnectFunc returned no database for user %q, and no error; return one of them", user)
		}
		dsn := borrowedFile(ctx, db)
		return found{db.DB, func() (*storeDB, error) { return adopt(db, dsn, user, opts) }}, nil
	}
	return ss
}

// take returns the database of a user, and what gives it back.
func (ss *shards) take(ctx context.Context, user string) (*storeDB, func(), error) {
	timeout := time.NewTimer(ss.timeout)
	defer timeout.Stop()
	for {
		u, err := ss.join(ctx, user)
		if err != nil {
			return nil, nil, err
		}
		select {
		case <-u.ready:
		case <-ctx.Done():
			err = errNotOpened(user, ctx.Err())
		case <-timeout.C:
			err = errNotOpened(user, ErrLockTimeout)
		case <-ss.done:
			err = errClosed
		}
		if err != nil {
			ss.leave(user, u)
			return nil, nil, err
		}
		switch {
		case u.err == errLeft:
			continue // they who asked for it have gone, and now we ask
		case u.err != nil:
			return nil, nil, u.err
		}
		return u.shard.on, func() { ss.leave(user, u) }, nil
	}
}

func errNotOpened(user string, err error) error {
	return fmt.Errorf("dblocker: the function that opens the database of user %q has not returned: %w", user, err)
}

// errLeft is the error of a user whom everybody had left before the database was there.
var errLeft = errors.New("nobody was left to use the database")

// join adds one who uses the user's database, and has it looked for if it is the first.
func (ss *shards) join(ctx context.Context, user string) (*shardUser, error) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.closed {
		return nil, errClosed
	}
	u := ss.users[user]
	if u == nil {
		u = &shardUser{ready: make(chan struct{})}
		ss.users[user] = u
		ctx, u.cancel = context.WithCancel(context.WithoutCancel(ctx))
		go ss.connect(ctx, user, u)
	}
	u.refs++
	return u, nil
}

// connect finds the database of a user.
func (ss *shards) connect(ctx context.Context, user string, u *shardUser) {
	var sh *shard
	err := errFuncEnded(user) // unless it returns
	defer func() { ss.settle(user, u, sh, err) }()
	f, found := ss.call(ctx, user)
	if found == nil {
		sh, found = ss.retain(user, f)
	}
	err = found
}

func errFuncEnded(user string) error {
	return fmt.Errorf("dblocker: the function that opens the database of user %q ended its goroutine, by runtime.Goexit or as t.FailNow does; return an error instead", user)
}

// settle tells those who wait for a user what connect has found.
func (ss *shards) settle(user string, u *shardUser, sh *shard, err error) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	u.shard = sh
	if u.left && err == nil {
		defer ss.release(sh)
	}
	if u.left {
		err = errLeft
	}
	if u.err = err; err != nil {
		delete(ss.users, user)
	}
	u.cancel()
	close(u.ready)
}

// call calls the program's function; a panic there is an error of the user's only.
func (ss *shards) call(ctx context.Context, user string) (f found, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errFuncPanicked(user, p)
		}
	}()
	return ss.find(ctx, user)
}

func errFuncPanicked(user string, p any) error {
	return fmt.Errorf("dblocker: the function that opens the database of user %q panicked: %v", user, p)
}

// leave takes back one join.
func (ss *shards) leave(user string, u *shardUser) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if u.refs--; u.refs > 0 {
		return
	}
	select {
	case <-u.ready:
		if u.err == nil {
			delete(ss.users, user)
			ss.release(u.shard)
		}
	default:
		u.left = true
		u.cancel()
	}
}

// retain adds a user to the shard, which it opens if it is new.
func (ss *shards) retain(user string, f found) (*shard, error) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for {
		if sh := ss.byKey[f.key]; sh != nil {
			sh.users++
			ss.wake(sh)
			return sh, nil
		}
		if ss.isClosing(f.key) {
			return nil, errNotUsable(user, errClosed)
		}
		opening := ss.opening[f.key]
		if opening == nil {
			return ss.open(user, f)
		}
		ss.mu.Unlock()
		<-opening
		ss.mu.Lock()
	}
}

// open opens a shard, which has the user then. mu is locked, but not while the driver is
// called: that may take long, or not return at all.
func (ss *shards) open(user string, f found) (sh *shard, err error) {
	opened := make(chan struct{})
	ss.opening[f.key] = opened
	ss.mu.Unlock()
	var on *storeDB
	defer func() {
		if p := recover(); p != nil {
			err = errFuncPanicked(user, p)
		}
		ss.mu.Lock()
		delete(ss.opening, f.key)
		close(opened)
		if on != nil {
			sh = &shard{key: f.key, on: on, users: 1}
			ss.byKey[f.key] = sh
		}
	}()
	on, err = f.open()
	return nil, err
}

// release takes a user from the shard. mu is locked.
func (ss *shards) release(sh *shard) {
	if sh.users--; sh.users > 0 {
		return
	}
	if _, isDSN := sh.key.(string); !isDSN || ss.closed {
		ss.discard(sh)
		return
	}
	ss.idle = append(ss.idle, sh)
	sh.timer = time.AfterFunc(shardIdleTime, func() { ss.expire(sh) })
	if len(ss.idle) > maxIdleShards {
		ss.discard(ss.idle[0])
	}
}

// wake takes the shard off the idle ones.
func (ss *shards) wake(sh *shard) {
	if i := slices.Index(ss.idle, sh); i >= 0 {
		ss.idle = slices.Delete(ss.idle, i, i+1)
		sh.timer.Stop()
		sh.timer = nil
	}
}

func (ss *shards) expire(sh *shard) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if slices.Contains(ss.idle, sh) {
		ss.discard(sh)
	}
}

// discard closes a shard without users. To close may mean to wait for the server.
func (ss *shards) discard(sh *shard) {
	ss.wake(sh)
	delete(ss.byKey, sh.key)
	closed := make(chan struct{})
	ss.closing[sh] = closed
	go func() {
		defer close(closed)
		sh.on.close()
		ss.mu.Lock()
		defer ss.mu.Unlock()
		delete(ss.closing, sh)
	}()
}

// isClosing tells whether the *sql.DB that a ConnectFunc returned is being closed. A DSN may
// be opened again meanwhile.
func (ss *shards) isClosing(key any) bool {
	if _, isDSN := key.(string); isDSN {
		return false
	}
	for sh := range ss.closing {
		if sh.key == key {
			return true
		}
	}
	return false
}

// databases returns those that are open.
func (ss *shards) databases() []*storeDB {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	var all []*storeDB
	for _, sh := range ss.byKey {
		all = append(all, sh.on)
	}
	return all
}

// close closes what is idle; the rest follows with its users, and nobody gets a lock
// there any more. One that is slow to close keeps nobody waiting but the caller.
func (ss *shards) close() {
	var inUse sync.WaitGroup
	for _, c := range ss.shut() {
		inUse.Go(func() { c.Close() })
	}
	inUse.Wait()
}

// shut returns the handles that have users.
func (ss *shards) shut() (inUse []*Connector) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.closed = true
	for len(ss.idle) > 0 {
		ss.discard(ss.idle[0])
	}
	for _, sh := range ss.byKey {
		inUse = append(inUse, sh.on.c)
	}
	for _, u := range ss.users {
		u.cancel()
	}
	return inUse
}

// wait returns when what is being closed is closed.
func (ss *shards) wait() {
	ss.mu.Lock()
	closing := slices.Collect(maps.Values(ss.closing))
	ss.mu.Unlock()
	for _, closed := range closing {
		<-closed
	}
}
