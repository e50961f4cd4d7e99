// Package tenants opens databases for users who have different ones, and closes them.
package tenants

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/userid"
)

// A Cache has the databases of users of whom a function says which one each has, as long as they have users and, if they may be
// kept, for some time more.
type Cache[D Database] struct {
	cfg Config[D]
	set *Set[any, D]

	mu     sync.Mutex // guards what follows
	users  map[string]*tenant[D]
	closed bool
}

// A Config says how a Cache finds databases, and what it answers.
type Config[D Database] struct {
	// Find says which database a user has. It may take its time.
	Find    func(ctx context.Context, user string) (Found[D], error)
	Timeout time.Duration   // of the wait for it
	Done    <-chan struct{} // closed when nobody is to wait any more

	ErrTimeout, ErrClosed error

	Limits  Limits
	Place   string                             // the name of one, in errors
	Explain func(user string, err error) error // of a wait for a place
	Contain func(func())                       // see NewSet
}

// A Found is a database by its key, and how to open it if the key is new; that does not connect.
type Found[D Database] struct {
	Key  any
	Keep bool // it may stay open without users, and be opened again while it is closed
	Open func() (D, error)
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
	entry  *Entry[any, D]
	err    error
}

// New returns a Cache without databases.
func New[D Database](cfg Config[D]) *Cache[D] {
	return &Cache[D]{cfg: cfg, set: NewSet[any, D](cfg.Limits, cfg.Place, cfg.Contain), users: make(map[string]*tenant[D])}
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
		return u.entry.On, func() { c.leave(user, u) }, nil
	}
}

func notOpened(user string, err error) error {
	return fmt.Errorf("dblocker: the function that opens the database of user %s has not returned: %w", userid.Brief(user), err)
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
	var e *Entry[any, D]
	err := funcEnded(user) // unless it returns
	defer func() { c.settle(user, u, e, err) }()
	f, found := c.call(ctx, user)
	if found == nil {
		e, found = c.open(ctx, user, f)
	}
	err = found
}

func funcEnded(user string) error {
	return fmt.Errorf("dblocker: the function that opens the database of user %s ended its goroutine, by runtime.Goexit or as t.FailNow does; return an error instead", userid.Brief(user))
}

// settle tells those who wait for a user what connect has found.
func (c *Cache[D]) settle(user string, u *tenant[D], e *Entry[any, D], err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u.entry = e
	if u.left && err == nil {
		defer c.set.Leave(e)
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
	return fmt.Errorf("dblocker: the function that opens the database of user %s panicked: %v", userid.Brief(user), p)
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
			c.set.Leave(u.entry)
		}
	default:
		u.left = true
		u.cancel()
	}
}

// open opens the database, unless it is open, for one more user.
func (c *Cache[D]) open(ctx context.Context, user string, f Found[D]) (*Entry[any, D], error) {
	e, err := c.set.Take(ctx, f.Key, Taking[D]{
		Keep: f.Keep,
		Open: func(context.Context) (D, error) { return contained(user, f.Open) },
		Wait: rwlock.Wait{Timeout: c.cfg.Timeout, Closed: c.cfg.Done, Turn: user},
	})
	switch err {
	case nil:
		return e, nil
	case ErrClosed:
		return nil, c.cfg.ErrClosed
	case ErrEnding:
		return nil, NotUsable(user, c.cfg.ErrClosed)
	case rwlock.ErrTimeout:
		return nil, notOpened(user, c.cfg.ErrTimeout)
	}
	if c.cfg.Explain != nil {
		err = c.cfg.Explain(user, err)
	}
	return nil, err
}

// contained calls open; a panic there is an error.
func contained[D Database](user string, open func() (D, error)) (on D, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = funcPanicked(user, p)
		}
	}()
	return open()
}

// Databases returns those that are open.
func (c *Cache[D]) Databases() []D { return c.set.Open() }

// Counts are of all of them.
func (c *Cache[D]) Counts() Counts { return c.set.Counts() }

// Close closes what is idle; the rest follows with its users, and nobody gets a lock
// there any more. One that is slow to close keeps nobody waiting but the caller.
func (c *Cache[D]) Close() {
	c.mu.Lock()
	c.closed = true
	for _, u := range c.users {
		u.cancel()
	}
	c.mu.Unlock()
	c.set.Close()
}

// InUse returns how many users there are, how many databases are open, and how many of these have no users.
func (c *Cache[D]) InUse() (users, open, idle int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.set.Counts()
	return len(c.users), n.Open, n.Unused
}

// Wait returns when what is being closed is closed.
func (c *Cache[D]) Wait() { c.set.Wait() }

// NotUsable is the error of a database that cannot be used.
func NotUsable(user string, err error) error {
	return fmt.Errorf("dblocker: ConnectFunc returned a database for user %s that cannot be used: %w; it is closed when no user is left, so open a new one each time", userid.Brief(user), err)
}
