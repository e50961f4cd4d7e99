package sqlite

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// RefuseReach returns why users' locks cannot reach beyond the process on the database, by its DSN; c may be nil.
func (c *Connector) RefuseReach() error {
	switch {
	case c == nil:
		return fmt.Errorf("dblocker: lock_scope=database needs the name of the SQLite file, beside which it has a lock file: open the database by its driver and DSN, not by a connector")
	case !c.isOfAFile():
		return nil // it is private to the process
	}
	d := c.dsn
	refuse := func(param, why, instead string) error {
		return fmt.Errorf("dblocker: lock_scope=database cannot be had on %q with %s, %s: %s", d.path, param, why, instead)
	}
	switch vfs, mode := d.vfs(), strings.ToLower(d.library.pragmaValue(d.params, "locking_mode")); {
	case d.isImmutable():
		return refuse("immutable=1", "which says that no process ever writes", "leave one of the two out")
	case isTrue(d.last("nolock")):
		return refuse("nolock=1", "since SQLite itself would then lock nothing among processes", "leave one of the two out")
	case mode == "exclusive":
		return refuse("locking_mode=EXCLUSIVE", "which keeps all other processes out of the file", "leave one of the two out")
	case !slices.Contains([]string{"", "unix"}, vfs):
		return refuse("vfs="+vfs, "of which it is not known how its files are locked", `leave vfs out, or write vfs=unix`)
	}
	return nil
}

// HasLog tells whether the file of that identity has a log beside it, as it has while any process has it open in WAL mode.
func HasLog(id string) bool {
	path, ok := strings.CutPrefix(id, Name+":")
	if !ok {
		return false
	}
	_, err := os.Lstat(path + "-wal")
	return err == nil
}

// MakesFile tells whether SQLite makes the file if there is none.
func (c *Connector) MakesFile() bool {
	mode := c.dsn.last("mode")
	return mode != "ro" && mode != "rw"
}
