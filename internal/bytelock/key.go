package bytelock

import (
	"crypto/sha256"
	"encoding/binary"
)

// A Key names a lock. It is the offset of the lock's byte.
//
//	0 to specials                   the locks of users
//	specials to globalDoor          locks and doors of Gate and Opening, and bytes for the probe of Open
//	globalDoor                      of who wants all locks of users
//	globalDoor+1 to doorsEnd        the doors of users
//
// No byte is beside another that the same description may have: the kernel would make one range of them, and would have to
// split it at the unlock.
type Key int64

const (
	specials   = 1<<62 - 1<<60
	globalDoor = 1 << 62
	doorsEnd   = globalDoor + 1 + specials // it is below the greatest offset, 1<<63 - 1

	// Gate is the lock of who writes to the database, of whatever user. It is not among those that AcquireAll takes, and its
	// holders do not wait for AcquireAll.
	Gate     Key = specials
	gateDoor     = specials + 2

	// Opening is the lock of who opens the first connection of a process to the database, or closes its last one. Who has it
	// waits for no other lock.
	Opening     Key = specials + 4
	openingDoor     = specials + 6

	// All stands for the locks of all users.
	All Key = -1

	everything = All

	probes = specials + 16 // up to globalDoor; each probe takes a random one
)

// KeyOf returns the key of a user. Two users have the same key, and so exclude each other, with a chance of 1 in 3.4e18; of a
// million users there are two that do with a chance of 1 in 7 million.
func KeyOf(lockspace, user string) Key {
	buf := make([]byte, 0, 128) // on the stack
	buf = binary.BigEndian.AppendUint64(buf, uint64(len(lockspace)))
	buf = append(append(buf, lockspace...), user...)
	sum := sha256.Sum256(buf)
	return Key(binary.BigEndian.Uint64(sum[:]) % specials)
}

// A span is a range of bytes.
type span struct{ start, length int64 }

// allDoors are those of users, and the global one.
var allDoors = span{globalDoor, doorsEnd - globalDoor}

// A place is where in the file the lock of a key is, and by which rules it is taken.
type place struct {
	key    Key
	by     channel
	lock   span
	door   span
	most   int  // holds in a run
	global bool // it waits for who is at the global door
}

func placeOf(f *File, k Key) place {
	switch k {
	case everything:
		return place{key: k, by: f.all, lock: span{0, specials}, door: span{globalDoor, 1}, most: 1}
	case Gate:
		return place{key: k, by: f.keys, lock: span{int64(k), 1}, door: span{gateDoor, 1}, most: maxRun}
	case Opening:
		return place{key: k, by: f.keys, lock: span{int64(k), 1}, door: span{openingDoor, 1}, most: maxRun}
	}
	return place{key: k, by: f.keys, lock: span{int64(k), 1}, door: span{globalDoor + 1 + int64(k), 1}, most: maxRun, global: true}
}

// awaited tells whether somebody else waits for the lock, so that it is their turn. Who is inside does not mind
// the global door. Locks of its own description it does not see, and need not. An error counts as yes: who then goes to the door meets
// it there.
func (p *place) awaited(inside bool) bool {
	switch {
	case p.key == everything: // whoever wants any lock
		return p.by.tries.look(allDoors)
	case !p.global:
		return p.by.tries.look(p.door)
	case !p.by.tries.look(allDoors): // mostly, and one look tells of both
		return false
	}
	return p.by.tries.look(p.door) || !inside && p.atGlobalDoor()
}

// atGlobalDoor tells whether somebody is there for whom this lock is to be left.
func (p *place) atGlobalDoor() bool { return p.global && p.by.tries.look(span{globalDoor, 1}) }
