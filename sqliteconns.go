package dblocker

import (
	"sync"
	"sync/atomic"
)

// openConns are the connections to a SQLite database. The first one to a file in WAL mode
// recovers the WAL, the last one removes it, and SQLite calls the file busy for everybody
// else meanwhile. So each of them is opened and closed while no other is. One that has
// been opened keeps SQLite's shared lock on the file, so that another's end is not the
// last; and it has found the WAL in order.
type openConns struct {
	mu    sync.RWMutex // held shared while one is opened beside others, else exclusively
	count atomic.Int64 // grows while mu is held; shrinks while it is held exclusively
}

// open calls connect, which opens a connection and reads from it.
func (o *openConns) open(connect func() error) error {
	if o == nil {
		return connect()
	}
	o.mu.RLock()
	if o.count.Load() > 0 {
		defer o.mu.RUnlock()
		return o.counted(connect)
	}
	o.mu.RUnlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.counted(connect)
}

func (o *openConns) counted(connect func() error) error {
	err := connect()
	if err == nil {
		o.count.Add(1)
	}
	return err
}

// close calls disconnect, which closes a connection that open has opened.
func (o *openConns) close(disconnect func() error) error {
	if o == nil {
		return disconnect()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.count.Add(-1)
	return disconnect()
}
