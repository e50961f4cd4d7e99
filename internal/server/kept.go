package server

// A KeptLock is a lock of the session which others rely on that work on other connections, although whoever had taken it has ended.
type KeptLock interface {
	Unused() <-chan struct{} // closed when nobody does any more
	GiveUpKept()             // to the server, when nobody does; if that fails, so does the connection
	Lost()                   // the session has ended, or is going to
}

// Keep has the connection keep a lock, which is counted in Locked. Whoever has the connection guards what it keeps, and gives it up when nobody relies on
// it: by GiveUpKept, which is for who goes on to have the connection, or AwaitKept, for who is about to give it back.
func (sc *Conn) Keep(k KeptLock) { sc.kept = append(sc.kept, k) }

// HasKept tells whether it has any. sc may be nil.
func (sc *Conn) HasKept() bool { return sc != nil && len(sc.kept) > 0 }

// GiveUpKept has those given up that nobody relies on, if that can be sent now, and does not wait for it.
func (sc *Conn) GiveUpKept() {
	if sc == nil || len(sc.kept) == 0 || sc.HasRows() {
		return
	}
	var still []KeptLock
	for _, k := range sc.kept {
		select {
		case <-k.Unused():
			sc.Later(k.GiveUpKept)
		default:
			still = append(still, k)
		}
	}
	sc.kept = still
}

// AwaitKept gives up all when nobody relies on them, and waits for it. It is for a goroutine of its own.
func (sc *Conn) AwaitKept() {
	kept := sc.kept
	sc.kept = nil
	for _, k := range kept {
		<-k.Unused()
		if sc.broken {
			k.Lost()
		} else {
			k.GiveUpKept()
		}
	}
}

// LoseKept is for a connection that is about to be closed.
func (sc *Conn) LoseKept() {
	if sc == nil {
		return
	}
	for _, k := range sc.kept {
		k.Lost()
	}
	sc.kept = nil
}
