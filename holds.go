package dblocker

import (
	"cmp"
	"hash/maphash"
	"slices"
	"time"

	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
)

// A HoldInfo describes who has a user's lock, the gate of a SQLite database or a server
// connection, or waits for it. Its JSON has durations and modes in words.
type HoldInfo struct {
	What    string // lock, gate, connection or database
	User    string // whose lock it is; of a gate or a connection whose work it has or waits for; "" for the lock of all users, and for work of nobody
	Mode    Mode
	Waiting bool
	Kind    string // statement, rows, transaction, session (a transaction written in SQL) or section
	Tag     string

	// Database is whose database it is in, on a handle with {user} in its DSN: the name that stands for the user there. Else it is "". What is database
	// is a place among the databases that max_open_databases allows, where somebody waits for one.
	Database string

	// Request is a number that the holds and waits of one request share, and no others in the list: one that has a lock may
	// wait for the next. It is 0 for what belongs to no request, and for other processes.
	Request uint64

	// Since is when the hold, or the wait, began, and For how long it has lasted. They
	// are zero for a statement that nobody has had to wait for.
	Since time.Time
	For   time.Duration

	// BlockedBy is what a wait waits for: who has the lock, or came before; nil for a hold. It has no BlockedBy of its own: that is in the list.
	BlockedBy *HoldInfo

	// Process is who has it, if that is another process; else nil. Then the Kind is process, the Tag is not known, and Since and For are those
	// of Process, or zero.
	Process *ProcessInfo
}

// Holds returns a snapshot of those who have a user's lock in the database of a handle, the
// gate of its SQLite file, or one of the server connections that max_open_conns allows, or wait
// for it, the oldest first. Who waits at the gate for the sake of a user's lock is in both lists.
//
// With lock_scope=database it asks the database too, for a second at most, who among other processes has the locks of these users, or of
// all users. Of users whose locks nobody in this process has or waits for, it does not know. It asks on a server connection that is idle or, if none is, on one beside
// the pool, which it closes again.
func Holds(db Handle) ([]HoldInfo, error) {
	c, b, err := backendOf(db)
	if err != nil {
		return nil, err
	}
	defer b.Release()
	var gate, slots []rwlock.Info
	users := append(b.Users.Snapshot(), b.Users.SnapshotAll()...)
	if b.Gate != nil {
		gate = b.Gate.Snapshot()
	}
	if b.Servers.Slots != nil {
		slots = b.Servers.Slots.Snapshot()
	}
	var more tenantHolds
	if c.tenancy != nil {
		more = c.tenancy.holds()
	}
	requests := rwlock.Outermost(append(more.infos(), users, gate, slots)...)
	who := workersOf(users, append(more.infos(), gate, slots)...)
	holds := appendHolds([]HoldInfo{}, "lock", users, requests, who) // which is a list in JSON, also if there are none
	if c.tenancy != nil {
		more.nameDatabases(holds)
	}
	holds = appendHolds(holds, "gate", gate, requests, who)
	holds = appendHolds(holds, "connection", slots, requests, who)
	holds = more.appendTo(holds, requests, who)
	if c.lockScope == DatabaseScope {
		holds = c.appendOthers(b, holds)
	}
	slices.SortStableFunc(holds, func(a, b HoldInfo) int { return cmp.Compare(b.For, a.For) })
	return holds, nil
}

func appendHolds(holds []HoldInfo, what string, infos []rwlock.Info, requests rwlock.Lines, who workers) []HoldInfo {
	var in inTheWay
	for n, i := range infos {
		h := holdInfo(i)
		h.What, h.Request = what, numberOf(requests.Of(i.Owner))
		if what != "lock" {
			who.name(&h, i)
		}
		if n == 0 || i.Key != infos[n-1].Key {
			in = inTheWay{}
		}
		h.BlockedBy = in.of(h)
		in.add(h)
		holds = append(holds, h)
	}
	return holds
}

// workers have, by the client connection or the section that has a gate or a connection, or waits for it, the user's lock that it works under; nil if there is none.
// A gate and a connection know no user.
type workers map[any]*rwlock.Info

func workersOf(users []rwlock.Info, others ...[]rwlock.Info) workers {
	who := make(workers)
	for _, infos := range others {
		for _, i := range infos {
			who[workerOf(i.Work)] = nil
		}
	}
	for n, i := range users {
		worker := workerOf(i.Work)
		if lock, asked := who[worker]; asked && worker != nil && (lock == nil || lock.Kind == rwlock.Leaf) {
			who[worker] = &users[n]
		}
	}
	return who
}

// workerOf returns that of which the work is.
func workerOf(work any) any {
	if r, ok := work.(*rows); ok {
		return &r.conn.resident
	}
	return work
}

// name says whose work has the gate or the connection, or waits for it, and of what kind it is.
func (who workers) name(h *HoldInfo, i rwlock.Info) {
	lock := who[workerOf(i.Work)]
	if lock == nil {
		return
	}
	of := holdInfo(*lock)
	h.User = of.User
	if i.Form == rwlock.Limited {
		h.Kind = of.Kind
	}
	if h.Tag == "" {
		h.Tag = of.Tag
	}
}

// inTheWay are the first of those that have come to a lock, as far as somebody may wait for them.
type inTheWay struct{ first, exclusive *HoldInfo }

// of returns what a wait waits for.
func (in *inTheWay) of(h HoldInfo) *HoldInfo {
	switch {
	case !h.Waiting:
		return nil
	case h.Mode == Exclusive || h.What == "connection":
		return in.first
	}
	return in.exclusive
}

func (in *inTheWay) add(h HoldInfo) {
	h.BlockedBy = nil
	if in.first == nil {
		in.first = &h
	}
	if in.exclusive == nil && h.Mode == Exclusive {
		in.exclusive = &h
	}
}

// numbers makes numbers of requests that tell nothing about addresses.
var numbers = maphash.MakeSeed()

// numberOf returns the number of a request, which JavaScript can read too.
func numberOf(o *rwlock.Owner) uint64 {
	if o == nil {
		return 0
	}
	return maphash.Comparable(numbers, o)>>11 | 1
}

// holdInfo describes a hold, or a wait, to the program.
func holdInfo(i rwlock.Info) HoldInfo {
	h := HoldInfo{What: "lock", Mode: Mode(i.Mode), Waiting: i.Waiting, Kind: i.Kind.String(), Tag: i.Tag, Since: i.Since, For: i.For}
	switch {
	case i.Form == rwlock.Gate:
		h.What = "gate"
	case i.Form == rwlock.Limited:
		h.What = "connection"
	case i.Form == rwlock.Single && i.Key == turnName:
		h.What = "turn"
	case i.Form == rwlock.Keyed || i.Key != locks.AllUsers: // one that stands for itself keeps a section back, until the server has ended what that has lost
		h.User = i.Key
	}
	return h
}
