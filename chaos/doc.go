// Package chaos puts dblocker under all that can go wrong at once, on SQLite,
// PostgreSQL and MariaDB, and proves that the locks hold all the same. It has only
// tests, and is a module of its own to keep porcupine, which checks the recorded
// history, out of dblocker's dependencies.
//
//	go test -race ./...                                             # 8 seconds for each engine, of which SQLite counts for three
//	go test -race -run TestChaos/mysql -chaos.seed=42 -chaos.duration=1h -timeout=0
//
// Requests of a few busy users read and write one row per user, a register, in
// every way that database/sql knows (steps_test.go), and in sections
// (sections_test.go), while their contexts end, their code panics, their sessions are
// killed, their server is restarted, and their handles are closed (faults_test.go).
// Round by round, four things are checked:
//
//   - The history of each register is linearizable (history_test.go). This is what
//     lost updates, dirty and stale reads, and writes that come late offend against.
//     A journal, which the server keeps, settles what became of the writes that were
//     cancelled or whose connection broke.
//   - No two owners are within a critical section of one user at a time, unless both
//     read (monitor_test.go).
//   - No call takes longer than all that it may have to wait for (calls_test.go).
//   - After a round no lock is held and no connection is in use; after the last no
//     session is left on the server and no goroutine in the program (world_test.go).
//
// TestWithoutLocks runs the same requests with the locking switched off, and fails
// if the checks find nothing.
//
// There are packages beside this one: processes has the locks reach among processes, with lock_scope=database; of SQLite,
// powercut cuts the power, and kills processes, and sequential checks what callers are told whose writes run together.
//
// What dblocker does not promise yet is switched off in contract_test.go.
//
// A seed fixes what the requests try to do. How they interleave is up to the
// scheduler and the server, so a seed that failed may need several runs to fail
// again.
package chaos
