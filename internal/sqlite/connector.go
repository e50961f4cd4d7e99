package sqlite

import (
	"context"
	"database/sql/driver"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/calmdocs/dblocker/internal/drivers"
)

var (
	_ driver.Connector = (*Connector)(nil)
	_ io.Closer        = (*Connector)(nil)
)

// A Connector opens the connections of a SQLite handle whose DSN is known.
type Connector struct {
	driver driver.Driver
	dsn    *dsn
	logger *slog.Logger

	// given is decided once, when the first connection is wanted: as with the
	// bare driver, a program may change its working directory until then.
	given struct {
		once sync.Once
		opening
	}

	mu     sync.Mutex  // guards what follows
	conns  int         // to a memory database, the anchor not counted
	anchor driver.Conn // keeps a memory database alive from the end of its last connection until Close; or nil
	closed bool

	// trust is raised for each error that may come from what the file was when a connection
	// opened it: the connections that were made before are no longer trusted.
	trust atomic.Int64
}

// opening is what the driver has been given.
type opening struct {
	dsn   string
	path  string // absolute, of the file; "" if there is none
	inner driver.Connector
	err   error
}

// newConnector makes the connector of a handle, and logs what its DSN does not do.
func newConnector(l *slog.Logger, d driver.Driver, dsn string) (driver.Connector, error) {
	c := &Connector{driver: d, dsn: parseOnce(dsn, drivers.Package(d)), logger: l}
	if _, ok := d.(driver.DriverContext); ok { // which may refuse the DSN now
		if err := c.opened().err; err != nil {
			return nil, err
		}
	}
	for _, n := range c.dsn.notes {
		l.Log(context.Background(), n.level, n.text, n.args...)
	}
	return c, nil
}

// opened returns what the driver is given.
func (c *Connector) opened() *opening {
	c.given.once.Do(func() {
		o := &c.given.opening
		if o.dsn = c.dsn.given; o.dsn == "" {
			o.dsn = c.dsn.forDriver()
		}
		if c.isOfAFile() {
			o.path, _ = filepath.Abs(c.dsn.path)
		}
		o.inner, o.err = drivers.Open(c.driver, o.dsn)
	})
	return &c.given.opening
}

// Of returns the Connector that a handle's inner connector is; nil if it is another. A nil
// Connector opens no file, and knows no DSN.
func Of(inner driver.Connector) *Connector {
	c, _ := inner.(*Connector)
	return c
}

// isOfAFile tells whether c opens a file.
func (c *Connector) isOfAFile() bool { return c != nil && c.dsn.kind() == kindFile }

// IsOfAFile tells whether c opens one.
func (c *Connector) IsOfAFile() bool { return c.isOfAFile() }

// Name returns the name of the file as the DSN has it, for the log.
func (c *Connector) Name() string {
	if c == nil {
		return ""
	}
	return c.dsn.path
}

// IsImmutable tells that SQLite takes no lock on what c opens.
func (c *Connector) IsImmutable() bool { return c != nil && c.dsn.isImmutable() }

// OpensReadOnly tells that SQLite opens the file only to read.
func (c *Connector) OpensReadOnly() bool { return c != nil && c.dsn.last("mode") == "ro" }

// Path returns the absolute path of the file; "" if there is none.
func (c *Connector) Path() string {
	if c == nil {
		return ""
	}
	return c.opened().path
}

// GivenDSN returns the DSN that the driver is given; other if c is nil.
func (c *Connector) GivenDSN(other string) string {
	if c == nil {
		return other
	}
	return c.opened().dsn
}

// Connect implements [driver.Connector].
func (c *Connector) Connect(ctx context.Context) (driver.Conn, error) {
	o := c.opened()
	if o.err != nil {
		return nil, o.err
	}
	if kind := c.dsn.kind(); kind == kindMemory || kind == kindNamedMemory {
		return c.connectToMemory(ctx, o.inner)
	}
	ci, err := o.inner.Connect(ctx)
	return ci, c.dsn.explainOpen(err)
}

func (c *Connector) connectToMemory(ctx context.Context, inner driver.Connector) (driver.Conn, error) {
	ci, err := inner.Connect(ctx)
	if err != nil {
		return nil, c.dsn.explainOpen(err)
	}
	liftMemoryLimit(ci)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns++
	return ci, nil
}

// LetGo is called before a connection is closed. A memory database is gone with its last
// connection: so before that, one is opened which nobody uses. Not earlier, since hooks of
// the program see it.
func (c *Connector) LetGo() {
	if c == nil || c.dsn.kind() != kindMemory && c.dsn.kind() != kindNamedMemory {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conns--; c.conns > 0 || c.closed || c.anchor != nil {
		return
	}
	anchor, err := c.opened().inner.Connect(context.Background())
	if err != nil {
		c.logger.Error("dblocker: the SQLite database in memory is lost: its last connection is closed, and no other could be opened", "error", err)
		return
	}
	c.anchor = anchor
}

// Stop tells that the handle is about to be closed.
func (c *Connector) Stop() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
}

// liftMemoryLimit lets a named memory database become as large as an unnamed one
// can, where the driver has a way to say it. The limit of 1 GiB remains elsewhere.
func liftMemoryLimit(ci driver.Conn) {
	const sizeLimit = 36 // SQLITE_FCNTL_SIZE_LIMIT
	if c, ok := ci.(interface {
		SetFileControlInt64(dbName string, op int, arg int64) error
	}); ok {
		_ = c.SetFileControlInt64("main", sizeLimit, 1<<46) // which the file's VFS may not know
	}
}

// Driver implements [driver.Connector].
func (c *Connector) Driver() driver.Driver { return c.driver }

// Close implements [io.Closer].
func (c *Connector) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.anchor != nil {
		c.anchor.Close()
		c.anchor = nil
	}
	if inner := c.opened().inner; inner != nil {
		return drivers.Close(inner)
	}
	return nil
}
