// Package tenants opens databases for users who have different ones, and closes them.
package tenants

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
	maxIdle  = 16 // databases without users
	idleTime = time.Minute
)

// A Cache has the databases of users who have different ones, as long as they have users and, if they may be
// kept, for some time more.
type Cache[D Database] struct {
	cfg Config[D]

	mu      sync.Mutex // guards what follows, and the fields of the elements
	users   map[string]*tenant[D]
	byKey   map[any]*entry[D]
	closing map[*entry[D]]chan struct{} // those that are being closed, of byKey no more; closed when they are
	opening map[any]chan struct{}       // those that are being opened, of byKey not yet; closed when they are
	idle    []*entry[D]                 // of byKey, without users, the longest idle first
	closed  bool
}

// A Config says how a Cache finds databases, and what it answers.
type Config[D Database] struct {
	// Find says which database a user has. It may take its time.
	Find    func(ctx context.Context, user string) (Found[D], error)
	Timeout time.Duration   // of the wait for it
	Done    <-chan struct{} // closed when nobody is to wait any more

	ErrTimeout, ErrClosed error
}

// A Found is a database by its key, and how to open it if the key is new; that does not connect.
type Found[D Database] struct {
	Key  any
	Keep bool // it may stay open without users, and be opened again while it is closed
	Open func() (D, error)
}

// An entry is a database that is open. It has users, or is in Cache.idle.
type entry[D Database] struct {
	key   any
	keep  bool
	on    D
	users int
	timer *time.Timer // while it is idle
}

// A tenant is a user in use: connecting until ready is closed, and then with a database
// or an error. It is in Cache.users while it has refs, unless it has an error. If
// nobody is left while it is connecting, it stays until that is done, so that a function
// that hangs is not called again and again.
type tenant[D Database] struct {
	refs   int
	left   bool // by all, while it was connecting
	cancel context.CancelFunc
	ready  chan struct{}
	entry  *entry[D]
	err    error
}

// New returns a Cache without databases.
func New[D Database](cfg Config[D]) *Cache[D] {
	return &Cache[D]{
		cfg:     cfg,
		users:   make(map[string]*tenant[D]),
		byKey:   make(map[any]*entry[D]),
		closing: make(map[*entry[D]]chan struct{}),
		opening: make(map[any]chan struct{}),
	}
}

// Take returns the database of a user, and what gives it back.
func (c *Cache[D]) Take(ctx context.Context, user string) (_ D, giveBack func(), err error) {
	var none D
	timeout := time.NewTimer(c.cfg.Timeout)
	defer timeout.Stop()
	for {
		u, err := c.join(ctx, user)
		if err != nil {
			return none, nil, err
		}
		select {
		case <-u.ready:
		case <-ctx.Done():
			err = notOpened(user, ctx.Err())
		case <-timeout.C:
			err = notOpened(user, c.cfg.ErrTimeout)
		case <-c.cfg.Done:
			err = c.cfg.ErrClosed
		}
		if err != nil {
			c.leave(user, u)
			return none, nil, err
		}
		switch {
		case u.err == errLeft:
			continue // they who asked for it have gone, and now we ask
		case u.err != nil:
			return none, nil, u.err
		}
		return u.entry.on, func() { c.leave(user, u) }, nil
	}
}

func notOpened(user string, err error) error {
	return fmt.Errorf("dblocker: the function that opens the database of user %q has not returned: %w", user, err)
}

// errLeft is the error of a user whom everybody had left before the database was there.
var errLeft = errors.New("nobody was left to use the database")

// join adds one who uses the user's database, and has it looked for if it is the first.
func (c *Cache[D]) join(ctx context.Context, user string) (*tenant[D], error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, c.cfg.ErrClosed
	}
	u := c.users[user]
	if u == nil {
		u = &tenant[D]{ready: make(chan struct{})}
		c.users[user] = u
		ctx, u.cancel = context.WithCancel(context.WithoutCancel(ctx))
		go c.connect(ctx, user, u)
	}
	u.refs++
	return u, nil
}

// connect finds the database of a user.
func (c *Cache[D]) connect(ctx context.Context, user string, u *tenant[D]) {
	var e *entry[D]
	err := funcEnded(user) // unless it returns
	defer func() { c.settle(user, u, e, err) }()
	f, found := c.call(ctx, user)
	if found == nil {
		e, found = c.retain(user, f)
	}
	err = found
}

func funcEnded(user string) error {
	return fmt.Errorf("dblocker: the function that opens the database of user %q ended its goroutine, by runtime.Goexit or as t.FailNow does; return an error instead", user)
}

// settle tells those who wait for a user what connect has found.
func (c *Cache[D]) settle(user string, u *tenant[D], e *entry[D], err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u.entry = e
	if u.left && err == nil {
		defer c.release(e)
	}
	if u.left {
		err = errLeft
	}
	if u.err = err; err != nil {
		delete(c.users, user)
	}
	u.cancel()
	close(u.ready)
}

// call calls the program's function; a panic there is an error of the user's only.
func (c *Cache[D]) call(ctx context.Context, user string) (f Found[D], err error) {
	defer func() {
		if p := recover(); p != nil {
			err = funcPanicked(user, p)
		}
	}()
	return c.cfg.Find(ctx, user)
}

func funcPanicked(user string, p any) error {
	return fmt.Errorf("dblocker: the function that opens the database of user %q panicked: %v", user, p)
}

// leave takes back one join.
func (c *Cache[D]) leave(user string, u *tenant[D]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if u.refs--; u.refs > 0 {
		return
	}
	select {
	case <-u.ready:
		if u.err == nil {
			delete(c.users, user)
			c.release(u.entry)
		}
	default:
		u.left = true
		u.cancel()
	}
}

// retain adds a user to the entry, which it opens if it is new.
func (c *Cache[D]) retain(user string, f Found[D]) (*entry[D], error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if e := c.byKey[f.Key]; e != nil {
			e.users++
			c.wake(e)
			return e, nil
		}
		if c.isClosing(f) {
			return nil, NotUsable(user, c.cfg.ErrClosed)
		}
		opening := c.opening[f.Key]
		if opening == nil {
			return c.open(user, f)
		}
		c.mu.Unlock()
		<-opening
		c.mu.Lock()
	}
}

// open opens a database, which has the user then. mu is locked, but not while the driver is
// called: that may take long, or not return at all.
func (c *Cache[D]) open(user string, f Found[D]) (e *entry[D], err error) {
	opened := make(chan struct{})
	c.opening[f.Key] = opened
	c.mu.Unlock()
	var on D
	returned := false
	defer func() {
		if p := recover(); p != nil {
			err = funcPanicked(user, p)
		}
		c.mu.Lock()
		delete(c.opening, f.Key)
		close(opened)
		if returned && err == nil {
			e = &entry[D]{key: f.Key, keep: f.Keep, on: on, users: 1}
			c.byKey[f.Key] = e
		}
	}()
	on, err = f.Open()
	returned = true
	return nil, err
}

// release takes a user from the entry. mu is locked.
func (c *Cache[D]) release(e *entry[D]) {
	if e.users--; e.users > 0 {
		return
	}
	if !e.keep || c.closed {
		c.discard(e)
		return
	}
	c.idle = append(c.idle, e)
	e.timer = time.AfterFunc(idleTime, func() { c.expire(e) })
	if len(c.idle) > maxIdle {
		c.discard(c.idle[0])
	}
}

// wake takes the entry off the idle ones.
func (c *Cache[D]) wake(e *entry[D]) {
	if i := slices.Index(c.idle, e); i >= 0 {
		c.idle = slices.Delete(c.idle, i, i+1)
		e.timer.Stop()
		e.timer = nil
	}
}

func (c *Cache[D]) expire(e *entry[D]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.Contains(c.idle, e) {
		c.discard(e)
	}
}

// discard closes a database without users. To close may mean to wait for the server.
func (c *Cache[D]) discard(e *entry[D]) {
	c.wake(e)
	delete(c.byKey, e.key)
	closed := make(chan struct{})
	c.closing[e] = closed
	go func() {
		defer close(closed)
		e.on.Close()
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.closing, e)
	}()
}

// isClosing tells whether the database is being closed, and cannot be opened again meanwhile.
func (c *Cache[D]) isClosing(f Found[D]) bool {
	if f.Keep {
		return false
	}
	for e := range c.closing {
		if e.key == f.Key {
			return true
		}
	}
	return false
}

// Databases returns those that are open.
func (c *Cache[D]) Databases() []D {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []D
	for _, e := range c.byKey {
		all = append(all, e.on)
	}
	return all
}

// Close closes what is idle; the rest follows with its users, and nobody gets a lock
// there any more. One that is slow to close keeps nobody waiting but the caller.
func (c *Cache[D]) Close() {
	var inUse sync.WaitGroup
	for _, d := range c.shut() {
		inUse.Go(d.Refuse)
	}
	inUse.Wait()
}

// shut returns the databases that have users.
func (c *Cache[D]) shut() (inUse []D) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for len(c.idle) > 0 {
		c.discard(c.idle[0])
	}
	for _, e := range c.byKey {
		inUse = append(inUse, e.on)
	}
	for _, u := range c.users {
		u.cancel()
	}
	return inUse
}

// InUse returns how many users there are, how many databases are open, and how many of these have no users.
func (c *Cache[D]) InUse() (users, open, idle int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.users), len(c.byKey), len(c.idle)
}

// Wait returns when what is being closed is closed.
func (c *Cache[D]) Wait() {
	c.mu.Lock()
	closing := slices.Collect(maps.Values(c.closing))
	c.mu.Unlock()
	for _, closed := range closing {
		<-closed
	}
}

// NotUsable is the error of a database that cannot be used.
func NotUsable(user string, err error) error {
	return fmt.Errorf("dblocker: ConnectFunc returned a database for user %q that cannot be used: %w; it is closed when no user is left, so open a new one each time", user, err)
}
