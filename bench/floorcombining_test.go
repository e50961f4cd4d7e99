package main

import (
	"context"
	"database/sql/driver"
	"runtime"
	"sync"
)

// onlyCombines is a driver with one statement, which is run by whoever finds nobody at work, with those of all who wait, in one
// transaction: combining behind database/sql with nothing else. It knows no users, no context, no other statement,
// and no error but that of the COMMIT.
type onlyCombines struct {
	*floorConn

	mu      sync.Mutex // guards what follows
	working bool
	waiting []chan error
}

func (o *onlyCombines) Connect(context.Context) (driver.Conn, error) {
	return onlyCombinesConn{o: o}, nil
}
func (o *onlyCombines) Driver() driver.Driver { return nil }

type onlyCombinesConn struct {
	instantly
	o *onlyCombines
}

func (c onlyCombinesConn) ExecContext(context.Context, string, []driver.NamedValue) (driver.Result, error) {
	return driver.RowsAffected(1), c.o.exec()
}

func (o *onlyCombines) exec() error {
	done := make(chan error, 1)
	o.mu.Lock()
	o.waiting = append(o.waiting, done)
	leads := !o.working
	o.working = true
	o.mu.Unlock()
	if leads {
		o.work()
	}
	return <-done
}

// work works until nobody waits.
func (o *onlyCombines) work() {
	for {
		o.mu.Lock()
		calls := o.waiting
		o.waiting = nil
		o.working = len(calls) > 0
		o.mu.Unlock()
		if len(calls) == 0 {
			return
		}
		o.floorConn.exec(o.begin)
		for range calls {
			o.floorConn.exec(o.update)
		}
		o.floorConn.exec(o.commit)
		for _, done := range calls {
			done <- nil
		}
		runtime.Gosched() // who was answered comes back at once
	}
}
