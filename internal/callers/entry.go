package callers

import (
	"runtime"
	"strings"
	"sync"
)

// An Entry is what of database/sql the program has called.
type Entry uint8

const (
	Unknown Entry = iota
	Handle        // a sql.DB, or a sql.Stmt
	Other         // a sql.Conn, a sql.Tx, or nothing of database/sql
)

// EntryPoint looks for it, for the caller of its caller.
func EntryPoint() Entry {
	var pcs [16]uintptr
	if e := firstEntry(pcs[:runtime.Callers(3, pcs[:])]); e != Unknown {
		return e
	}
	return Other
}

// Taker looks for it where database/sql takes a connection, which is a fifth of the way: for a caller
// that it has called to make one, or to reset one. Of a wrapper around database/sql's driver it is Unknown.
func Taker() Entry {
	var pcs [3]uintptr
	return firstEntry(pcs[:runtime.Callers(3, pcs[:])])
}

func firstEntry(pcs []uintptr) Entry {
	for _, pc := range pcs {
		known, ok := entries.Load(pc)
		if !ok {
			known = entryIn(pc)
			entries.Store(pc, known)
		}
		if known != Unknown {
			return known.(Entry)
		}
	}
	return Unknown
}

// entries remembers what is at a program counter: there are a few of them, in database/sql and in what the
// program has around it.
var entries sync.Map

// entryIn looks at the functions, some of them inlined, at a program counter.
func entryIn(pc uintptr) Entry {
	frames := runtime.CallersFrames([]uintptr{pc})
	for {
		frame, more := frames.Next()
		switch name, ok := strings.CutPrefix(frame.Function, "database/sql.(*"); {
		case !ok:
		case name == "DB).exec", name == "DB).prepare", name == "DB).begin", name == "Stmt).connStmt":
			return Handle
		case strings.HasPrefix(name, "DB).Exec"), strings.HasPrefix(name, "DB).Prepare"), strings.HasPrefix(name, "DB).BeginTx"), strings.HasPrefix(name, "Stmt).Exec"):
			return Handle
		case strings.HasPrefix(name, "DB).Conn."), strings.HasPrefix(name, "Conn)."), strings.HasPrefix(name, "Tx)."):
			return Other
		}
		if !more {
			return Unknown
		}
	}
}

// InBackground tells whether database/sql calls from its goroutine that awaits the end of a context,
// where a panic would end the program.
func InBackground() bool {
	var pcs [64]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for {
		frame, more := frames.Next()
		if strings.HasPrefix(frame.Function, "database/sql.") && strings.HasSuffix(frame.Function, ".awaitDone") {
			return true
		}
		if !more {
			return false
		}
	}
}
