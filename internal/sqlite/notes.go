package sqlite

import (
	"log/slog"
	"slices"
	"strings"
)

// A note is a line for the log of each handle with a DSN.
type note struct {
	level slog.Level
	text  string
	args  []any
}

// findNotes says what in the DSN does not do what it says.
func (d *dsn) findNotes() (notes []note) {
	add := func(level slog.Level, text string, args ...any) { notes = append(notes, note{level, text, args}) }
	if driver, ok := d.namesDriver(); ok {
		add(slog.LevelWarn, `dblocker: the SQLite DSN begins with the name of a driver, as that of the driver "dblocker" would, and here it is a part of the file's name`,
			"name", driver+":")
	}
	if d.unreadable {
		return notes
	}
	for _, p := range d.library.ignored(d.params) {
		add(slog.LevelWarn, "dblocker: a parameter of the SQLite DSN is unknown to the driver, which ignores it",
			"driver", d.library.pkg, "parameter", p.name, "instead", p.write)
	}
	if d.last("_txlock") == "deferred" {
		add(slog.LevelWarn, "dblocker: _txlock=deferred in the SQLite DSN is overruled: a transaction that may write begins immediate, so that it cannot fail in its middle because another one writes; "+
			"begin one that only reads with sql.TxOptions{ReadOnly: true}, and it runs beside others", "file", d.path)
	}
	if d.isFileDespiteMode() {
		add(slog.LevelWarn, `dblocker: the driver ignores mode=memory in a SQLite DSN that does not begin with "file:", and so a file is opened`,
			"driver", d.library.pkg, "file", d.path, "instead", "file:"+d.path+"?mode=memory&cache=shared")
	}
	if d.isSharedFile() {
		add(slog.LevelWarn, "dblocker: cache=shared is dropped from the SQLite DSN: connections that share the cache of a file lock each other out table by table, readers and the writer of a file in WAL mode too",
			"file", d.path)
	}
	if names := slices.DeleteFunc(d.promoted(), func(name string) bool { return name == "cache" }); len(names) > 0 {
		add(slog.LevelInfo, `dblocker: parameters of SQLite's own count here, which the driver would drop from a DSN that does not begin with "file:"`,
			"driver", d.library.pkg, "parameters", strings.Join(names, ", "))
	}
	if d.fragment != "" {
		add(slog.LevelWarn, `dblocker: the SQLite DSN has a "#" where SQLite ends a URI: what follows is no part of the file's name, and parameters of SQLite's own there do nothing; in a name write %23`,
			"file", d.path)
	}
	return notes
}
