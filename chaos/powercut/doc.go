// Package powercut shows that what dblocker has acknowledged on SQLite is there after the power was cut, or the process killed.
//
//	go test .                                                   # some 20 seconds
//	go test . -powercut.duration=20s -powercut.cuts=5000 -powercut.seed=42 -timeout=0
//
// Writers work by way of dblocker, in every way that there is to write (load_test.go): by Execs that are combined, by
// transactions, sections, rows, statements for the schema, and with checkpoints all the time. SQLite has a VFS (vfs_linux.go) that
// hands everything on to its own, and tells a Recorder each write, truncation, sync, creation and deletion.
// With durability=group it is told the syncs that calls share, too. The writers note there what they are about to do, and
// what they were told is done (ledger_test.go).
//
// What was recorded is then played, and the power cut at many moments of it (disk.go). What a completed sync covers
// is there: what was done to the file before that began. Of all that came later anything may be there: each 512 bytes of a
// write by themselves, in a file that is longer than what was written, with anything in between. Names of
// files come and go in their order, and do so for certain when the directory is synced. The files are opened
// with the plain driver. The database must be whole, what was acknowledged must be there, and of what was not, all
// or nothing.
//
// In some scenes syncs of the log fail, and lose what they were for: then the kernel takes it for written. What is
// acknowledged must be there even so, and with durability=group nothing is acknowledged until the log was copied
// into the database, and cut. Between these two the power is not cut: a checkpoint may have copied pages whose commits the
// disk has only in part.
//
// The same writers work in processes that are killed, on mattn/go-sqlite3 and modernc.org/sqlite (kill_test.go): there what was
// written is there, synced or not.
//
// TestPowerCutsAreFelt is the proof that this can fail.
package powercut
