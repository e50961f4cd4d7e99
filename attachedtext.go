package dblocker

import (
	"database/sql/driver"
	"slices"
	"strconv"

	"github.com/calmdocs/dblocker/internal/sqlite"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// attaches tells whether a statement may attach a file, or detach one.
func attaches(st sqltext.Statement, text string) bool {
	switch {
	case st.Kind == sqltext.Read:
		return false
	case st.Multi, st.Verb == "":
		return sqltext.Contains(text, "ATTACH") || sqltext.Contains(text, "DETACH")
	}
	return st.Verb == "ATTACH" || st.Verb == "DETACH"
}

// expectAttached is for a statement that is about to ask for its locks. It may attach files.
func (c *conn) expectAttached(st sqltext.Statement, text string, args []driver.NamedValue) {
	if c.pool.gate == nil || !attaches(st, text) {
		return
	}
	for _, a := range sqltext.Attaches(text) {
		if path := attachedPath(a, args); path != "" {
			id := sqlite.Name + ":" + path
			c.pool.attached.expect(id)
			c.expected = append(c.expected, id)
		}
	}
}

// doneAttaching is called when a statement has ended that was expected to attach files.
func (c *conn) doneAttaching() {
	for _, id := range c.expected {
		c.pool.attached.disappoint(id)
	}
	c.expected = nil
}

// attachedPath returns the resolved path of the file that an ATTACH names; "" if it is none, or
// cannot be told.
func attachedPath(a sqltext.Attach, args []driver.NamedValue) string {
	name := a.File
	if a.Param != "" {
		name = attachedArg(a, args)
	}
	return sqlite.AttachedFile(name)
}

// attachedArg returns the argument for the parameter of an ATTACH, if that is a name of a file.
func attachedArg(a sqltext.Attach, args []driver.NamedValue) string {
	i := slices.IndexFunc(args, func(arg driver.NamedValue) bool { return arg.Name != "" && arg.Name == a.Param[1:] })
	if i < 0 {
		i = attachedArgAt(a, len(args))
	}
	if i < 0 {
		return ""
	}
	switch v := args[i].Value.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	}
	return ""
}

// attachedArgAt returns which of n arguments is that for a parameter without a name, or -1. The
// drivers differ: to some, the arguments of a statement begin behind those of the one before.
func attachedArgAt(a sqltext.Attach, n int) int {
	number, err := strconv.Atoi(a.Param[1:])
	if err != nil {
		number = 1
	}
	switch {
	case number < 1 || number > n:
		return -1
	case a.Before+number <= n:
		return a.Before + number - 1
	}
	return number - 1
}
