package server

import (
	"log/slog"
	"time"
)

// A Config is what server connections know of the options of their handle.
type Config struct {
	Engine           *Engine
	Logger           *slog.Logger
	StatementTimeout time.Duration
	CancelGrace      time.Duration
	StmtCache        int
	StmtCacheSet     bool // by an option
	SessionPooler    bool // a pooler between serves each client by one session of the server
	TxPooler         bool // a pooler between may run each transaction in another session
	LockReaders      int  // may share a lock of the engine that has no shared mode of its own; 0 for its default

	// Opened is told of a connection that was opened, or could not be, and Closed of one that was closed; nil if nobody wants to know. They
	// must not wait.
	Opened func(took time.Duration, err error)
	Closed func(age time.Duration)

	// IsLeft tells whether a lock of the engine rests on a connection, of a user, on whatever connection; nil if none ever do.
	IsLeft func(user string) bool
}

// Locks are those of the engine that reach beyond the process, for these options; nil if there are none.
func (c *Config) Locks() *Locks {
	if c.TxPooler {
		return c.Engine.PooledLocks
	}
	return c.Engine.Locks
}

// contain is Contain with the logger of the handle.
func (c *Config) contain(f func()) error { return Contain(c.Logger, f) }

// Limits bound the pool of server connections. The fields mean what the
// setters of sql.DB with the same names mean.
type Limits struct {
	MaxOpenConns    int
	MaxIdleConns    int
	ConnMaxLifetime time.Duration
	ConnMaxIdleTime time.Duration
}

// mayBeLone tells whether a connection outside of a sql.DB fares as it would inside: nobody
// waits for it, and it does not age.
func (l Limits) mayBeLone() bool {
	return l.MaxOpenConns == 0 && l.MaxIdleConns > 0 && l.ConnMaxLifetime == 0 && l.ConnMaxIdleTime == 0
}
