// Package processes has several processes at work on one database with lock_scope=database, and proves that no lock of one is had
// by another, whatever happens to them. It has only tests.
//
//	go test -race ./processes                                             # some seconds for each engine, and the scenes
//	go test -race ./processes -run TestProcesses/mysql -chaos.seed=42 -chaos.duration=1h -timeout=0
//
// The test starts its own binary again, four times. Each process has some workers, who read and write one row per user, a
// register, in every way that takes a lock (steps_test.go, sections_test.go). What they do is written to a file of the process,
// with times of a clock that all processes of a host share (record_test.go). Meanwhile processes are killed and started anew, or
// frozen for a while; sessions are ended at the server; connections are closed on their way, or swallow what is sent; the
// server is restarted (faults_test.go). At the end of a round the files are put together and checked:
//
//   - The history of each register is linearizable (history_test.go). A write whose end nobody knows, as its process
//     was killed or its connection lost, may have been made at any time until the end. Whether it was, the journal tells, which
//     the database itself keeps in the same transaction.
//   - No two owners have had a user's lock at the same time, unless both read (held_test.go). A section or a transaction has
//     had it at least until its last statement was sent that was answered.
//   - No call has ended with an error that the faults do not explain, or has not ended (calls_test.go).
//   - While the processes live and do nothing, no lock is left in any of them, nor at the server, and each can be had.
//
// TestControls has the same checks find what must be found: processes without a lock between them, one whose keys differ,
// a lock on another connection than the one that does the work, and on MySQL locks of two kinds.
//
// The tests of holders are single faults with a bound: how soon the next one has the lock (scenes_test.go).
//
// A seed fixes what the workers try to do, and the faults. How they interleave is up to the machine.
package processes
