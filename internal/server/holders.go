package server

import "time"

// A LockHolder is a session that has a lock of the engine, as the engine shows it.
type LockHolder struct {
	Lock    int    // the place of the lock in the list of those that were asked about
	Shared  bool   // beside others
	Session string // as Locks.Session names it
	Mark    string // by which the process knows it for its own, if it does not know its session; "" if it has none

	Name    string    // that the program has given itself; "" if it has not, or that is not shown
	Address string    // of the client, with its port; "" if it is not shown
	State   string    // of the session, in the engine's words; "" if it is not shown
	Since   time.Time // its transaction runs or, if it has none, its last statement; zero if that is not shown
}
