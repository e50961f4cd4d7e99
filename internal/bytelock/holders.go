package bytelock

// A Holder is a process that has a lock.
type Holder struct {
	PID  int // 0 if that cannot be told: see Holders
	Mode Mode
}

// Holders returns who has the lock of a key, this process included. It is for errors and for people: who holds a lock may have changed by
// the time that it returns, and the more processes and descriptors there are the longer it takes, some milliseconds.
//
// The kernel does not say to whom a lock of this kind belongs, neither in F_OFD_GETLK nor in /proc/locks, where the
// pid is -1. On Linux it does in /proc/PID/fdinfo, of processes that this one may look into: those of its own user and its own
// pid namespace. For others, and on other systems, there is one Holder without a PID. Since when a lock is held nobody tells.
func (f *File) Holders(k Key) []Holder { return f.holders(placeOf(f, k).lock) }

// AllHolders returns who has any lock but Gate, and so is in the way of AcquireAll, or has that.
func (f *File) AllHolders() []Holder { return f.Holders(All) }

func (f *File) holders(lock span) []Holder {
	if holders := holdersByProc(f.info, lock); len(holders) > 0 {
		return holders
	}
	for _, d := range []descriptor{f.keys.tries, f.all.tries} { // each sees the other's locks
		if m, err := d.other(Exclusive, lock); err == nil && m != none {
			return []Holder{{Mode: m}}
		}
	}
	return nil
}
