// Package gate is what stands before a SQLite database. It knows the state of the file as far
// as waiting depends on it, but no SQL and no connection.
package gate

import (
	"context"
	"runtime"
	"sync/atomic"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// A Gate stands before a SQLite database, and whatever SQLite would refuse as busy
// waits there instead. A file in WAL mode lets one write at a time and many read
// beside it: there writers pass the gate alone, and readers pass by. With any other
// journal, and in memory, readers and writers shut each other out: there readers pass the
// gate together.
//
// Holding it is what makes SQLite's own locks free, so it is taken before the
// statement that needs them, and given up no earlier than SQLite gives them up.
type Gate struct {
	Conns Conns // to the database

	lock *rwlock.Lock
	name string // of the lock

	learning *rwlock.Lock // of who opens the first connection, to set wal
	untagged untagged     // the readers without an owner that have the gate
	openings openings     // that nobody waits for any more
	lease    lease        // of who begins a transaction
	file     openFile     // by whose byte it is closed to other processes too
	visitors visitors

	// wal tells whether the file is in WAL mode. It is learned from each new
	// connection, and after each statement of ours that may change it, while that has
	// the gate. Another process can end WAL mode only while we have no connection.
	wal atomic.Int32

	// passers counts the readers that passed by. A reader counts itself before it
	// looks at wal; so once wal says otherwise, and the count is zero, there are none.
	passers atomic.Int64

	// writers counts those who have the gate alone or wait for it, and reads what passes
	// by meanwhile.
	writers atomic.Int32
	reads   atomic.Uint32

	// writes counts the times that somebody had the gate alone. barred tells that who has
	// it now is not to be kept company by a read of ours.
	writes atomic.Int64
	barred atomic.Bool
}

// The values of Gate.wal.
const (
	walUnknown int32 = iota // until the first connection
	walOff
	walOn
	walLeaving // still in it, but readers are kept out
)

// New returns the gate of a database. The name is said in errors. The rows are those that
// readers without an owner have open.
func New(name string, rows Rows) *Gate {
	return &Gate{lock: rwlock.NewGate(name), name: name, learning: rwlock.NewLock(name, 0), untagged: untagged{rows: rows}}
}

// Name returns the name of the gate, which is the key of its lock.
func (g *Gate) Name() string { return g.name }

// Snapshot returns who has the gate or waits for it.
func (g *Gate) Snapshot() []rwlock.Info { return g.lock.Snapshot() }

// Waiting returns how many wait: at the gate, for the first connection, or for the readers that have passed by.
func (g *Gate) Waiting() (n int) {
	if g.IsLeaving() {
		n++
	}
	for _, info := range append(g.lock.Snapshot(), g.learning.Snapshot()...) {
		if info.Waiting {
			n++
		}
	}
	return n
}

// MakeRoom is called by a reader that has passed by. Reads that never wait would keep the
// processors to themselves, for 10 ms at a time, from a writer that has got its turn or comes
// back from the disk: so some of them make room.
func (g *Gate) MakeRoom() {
	const oneOf = 16
	if g.writers.Load() > 0 && g.reads.Add(1)%oneOf == 0 {
		runtime.Gosched()
	}
}

// IsKnown tells whether the journal mode has been learned.
func (g *Gate) IsKnown() bool { return g.wal.Load() != walUnknown }

// IsWAL tells whether the file is in WAL mode, and stays so for now.
func (g *Gate) IsWAL() bool { return g.wal.Load() == walOn }

// IsLeaving tells whether readers are kept out because the file is to leave WAL mode.
func (g *Gate) IsLeaving() bool { return g.wal.Load() == walLeaving }

// Learn waits until nobody else learns the journal mode, which is done by opening a connection.
// Until p leaves, others wait.
func (g *Gate) Learn(ctx context.Context, p *Place, w rwlock.Wait) error {
	return g.learning.Acquire(ctx, rwlock.Exclusive, &p.Hold, w)
}

// Opened adapts the gate to the journal mode that a new connection has reported. One that
// could not tell, for example because the file is no database, leaves the gate as it
// is, and at first closed to readers beside writers. While a statement is about to
// change the mode, it is for that to say what came of it. A nil gate does nothing.
func (g *Gate) Opened(journal string) {
	if g == nil {
		return
	}
	was := g.wal.Load()
	if was == walLeaving || journal == "" && was != walUnknown {
		return
	}
	g.wal.CompareAndSwap(was, walFrom(journal))
}

// Keeps tells whether the file is known to be in the journal mode, as far as that matters.
func (g *Gate) Keeps(journal string) bool { return g.IsKnown() && g.wal.Load() == walFrom(journal) }

// SetJournal is called by who has the gate and may have changed the journal mode.
func (g *Gate) SetJournal(journal string) { g.wal.Store(walFrom(journal)) }

// ForgetJournal has the next to come to the gate learn the journal mode.
func (g *Gate) ForgetJournal() { g.wal.Store(walUnknown) }

// KeepOut sends readers to the gate, since the file is to leave WAL mode.
func (g *Gate) KeepOut() { g.wal.Store(walLeaving) }

// LetIn lets them pass by again, if they were kept out: the file stays in WAL mode.
func (g *Gate) LetIn() { g.wal.CompareAndSwap(walLeaving, walOn) }

func walFrom(journal string) int32 {
	if journal == "wal" {
		return walOn
	}
	return walOff
}

// Passers returns how many readers have passed by.
func (g *Gate) Passers() int { return int(g.passers.Load()) }

// Writes returns how often somebody has had the gate alone.
func (g *Gate) Writes() int64 { return g.writes.Load() }

// Writers returns how many have the gate alone or wait for it.
func (g *Gate) Writers() int { return int(g.writers.Load()) }

// IsBusy tells whether somebody has the gate alone, or waits for it.
func (g *Gate) IsBusy() bool { return g.writers.Load() > 0 }

// Bar keeps reads of ours from beginning until who has the gate alone leaves.
func (g *Gate) Bar() { g.barred.Store(true) }

// IsBarred tells whether they are.
func (g *Gate) IsBarred() bool { return g.barred.Load() }

// InUse calls count with each number that is zero when nobody has anything of the gate.
func (g *Gate) InUse(count func(what string, n int)) {
	count("the gate", g.lock.Len())
	count("its lock of who learns", g.learning.Len())
	count("passers", g.Passers())
	count("writers", int(g.writers.Load()))
	if g.IsLeaving() {
		count("readers are kept out", 1)
	}
}
