package callers

import (
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// deepest is the most calls that Method looks at.
const deepest = 10

// Method returns which of these methods of sql.DB, or of functions that they have, is nearest up
// the stack, among that many calls above the caller of its caller; "" if none is. It costs a microsecond.
func Method(depth int, methods ...string) string {
	var pcs stack
	runtime.Callers(3, pcs[:min(depth, deepest)])
	names, ok := seenStacks.Load(pcs)
	if !ok {
		names = pcs.methods()
		if seenStacks.count.Add(1) <= maxSeenStacks {
			seenStacks.Store(pcs, names)
		}
	}
	for _, name := range names.([]string) {
		if slices.Contains(methods, name) {
			return name
		}
	}
	return ""
}

// A stack is the innermost calls of a goroutine.
type stack [deepest]uintptr

// seenStacks has the methods of the stacks that were looked at, since to find out names costs
// more than the rest.
var seenStacks struct {
	sync.Map // of []string by stack
	count    atomic.Int64
}

const maxSeenStacks = 1000

// methods returns the methods of sql.DB on the stack, the innermost first.
func (s stack) methods() (names []string) {
	frames := runtime.CallersFrames(s[:slices.Index(append(s[:], 0), 0)])
	for {
		frame, more := frames.Next()
		if name, ok := strings.CutPrefix(frame.Function, "database/sql.(*DB)."); ok {
			name, _, _ = strings.Cut(name, ".")
			names = append(names, name)
		}
		if !more {
			return names
		}
	}
}
