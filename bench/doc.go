// Bench measures dblocker beside the bare drivers and the alternatives, in one
// process and one run. It is a module of its own so that the peers' dependencies
// stay out of dblocker's.
//
//	go run . -quick                           # everything once, to see that it works
//	go run . -suite calls -svg charts         # what an operation costs, on four drivers
//	go run . -suite load -svg charts          # SQLite with many goroutines at work
//	go run . -suite calls -engine pq -workload '^(query|exec)/plain' -contender dblocker
//	go run . -suite scope                     # locks of the process against those of the database
//	go run . -suite tenants                   # a SQLite file for each user
//	go run . -suite load -markdown            # tables for the documentation
//	go run . -suite load -busy                # the same also on a busy machine
//
// PostgreSQL and MariaDB are those that DBLOCKER_TEST_POSTGRES and
// DBLOCKER_TEST_MYSQL name, or throwaway servers made from the installed binaries,
// on this machine and with fsync off. Without either, the engine is left out in
// words. With the defaults a run of calls takes about 8 minutes, one of load about 6, one of scope about 12, one of tenants about 12.
// Each contender has a database of its own.
//
// # How it measures
//
// In each round, every contender works on every workload for one slice of time. The
// contenders of a workload follow right upon each other, and their order changes
// from round to round, so that whatever disturbs the machine disturbs all alike.
// For each slice the database is opened anew, a fifth of the slice is worked to
// warm up, and the garbage is collected. A figure is the median over the rounds. A
// ratio is taken within each round, and shown as the median of these with the least
// and the most: two contenders whose ranges overlap are not known to differ.
//
// What is read is compared with what must be there. The sum of all counters before
// and after each slice shows updates that were acknowledged but lost.
//
// # Suite calls
//
// One operation again and again: a point query as text with one argument (query),
// the same prepared (prepared), a query for 1000 rows of three columns (scan), an
// update of one row as text with one argument (exec), and a transaction with the same
// update (tx). By one goroutine and by 16, each of which is a user of its own and
// writes a row of its own; with a plain context (nothing can cancel it) and with a cancellable
// one, made once for each goroutine. SQLite is a file in WAL mode on tmpfs, with immediate
// transactions. All handles have SetMaxIdleConns(16), dblocker's default: with the two
// idle connections of database/sql, 16 goroutines would measure how the driver
// connects.
//
//	bare              the driver alone: the baseline
//	own               the driver with its own setting against the cost of preparing:
//	                  _stmt_cache_size=64 of mattn/go-sqlite3, binary_parameters=yes of
//	                  lib/pq, interpolateParams=true of go-sql-driver/mysql. The last
//	                  two send values in another format. pgx has a cache without being told
//	sqlmw             ngrok/sqlmw with an interceptor that does nothing
//	otelsql           XSAM/otelsql with providers that do nothing
//	dblocker-nocache  dblocker with stmt_cache=0
//	dblocker          dblocker with its defaults
//
// Columns: time/op is the time of the wall clock for one operation, with 16
// goroutines a sixteenth of what each of them waits; allocs/op are those of the
// whole process; "time / bare" is the ratio of times, so that less is better.
//
// # Suite load
//
// One SQLite file, on tmpfs and on a disk (-disk names the directory), with a counter for each user. All
// contenders but the last three have synchronous=NORMAL, the default of mattn/go-sqlite3: in WAL mode
// a checkpoint syncs, a commit does not.
//
//	read    16 goroutines, 100 users: a point query
//	update  16 goroutines, 100 users: an update of one row
//	writers the same, by 64 goroutines
//	mix     64 goroutines, 100 users: nine point queries to one update
//	rmw     32 goroutines, 50 users: a transaction that reads a row and writes it back
//	rmw64   the same, by 64 goroutines for 100 users
//	lone    one goroutine: an update of one row
//	quiet   20 goroutines, 20 users: a point query
//	hot     the same, beside 200 goroutines that update the row of one other user
//	fair    200 goroutines, each a user of its own: an update of one row
//
// With -busy each load is run also beside two processes that only compute, started for it and ended after it, as places of
// their own: -place '^tmpfs' -busy compares a quiet and a busy machine in one run. They end with the program, however that ends.
//
// The contenders:
//
//	default      mattn/go-sqlite3 with a path and nothing else
//	tuned        the best settings for it: WAL, _txlock=immediate, a busy timeout of 5 s,
//	             16 idle connections; the baseline
//	tuned+cache  the same with _stmt_cache_size=64
//	one-conn     tuned, with SetMaxOpenConns(1)
//	two-pools    tuned, with one handle of one connection for writes and another of 16
//	             for reads: which is used, the program decides for each operation
//	zombiezen    zombiezen.com/go/sqlite, a sqlitex.Pool of 16: no database/sql, and
//	             another SQLite library (modernc.org's), which keeps to a file of its own
//	dblocker     sql.Open("sqlite3-dblocker", path), and WithUser for each operation
//	dblocker-alone  the same with combine=off
//	full            tuned, with synchronous=FULL: each commit is synced
//	dblocker-full   dblocker with synchronous=FULL
//	dblocker-group  dblocker with durability=group: the same promise, and syncs that are shared
//
// Columns: ops/s are operations that succeeded. Latencies are of all operations, those
// that failed included, in milliseconds: medians over the rounds of the middle and
// the 99th percentile, and the longest of all. A slice's last operations are waited
// for, however long they take. "read p99 / quiet" is what the hot user does to the
// others; "longest / median" of the writes is how unequal equals fare. Errors are
// given of all operations; lost updates are those of which the program was told that
// they succeeded (less than zero: updates that it was told had failed, but had not).
//
// # Suite scope
//
// How far locks reach, on PostgreSQL and MariaDB, next to the server and 2.4 ms away from it, by a proxy of our own, and on a
// SQLite file on tmpfs, by one goroutine and by 16, each a user of its own:
//
//	query, exec      a point query; an update of one row
//	tx, section      both in a transaction; both in a section of the user
//	...-others       the same, each time as another one of 16 users
//	section-hot      sections of one user, by 2 x 16 goroutines on two handles that are as two processes, with the shares of the two
//
// On SQLite an update is also measured beside another process that updates as well, with 32 writers in each (pair): its table has
// the latencies. Writes that fail in the other process end the run.
//
//	bare      the driver alone, without any lock
//	process   dblocker, lock_scope=process: the baseline
//	database  dblocker, lock_scope=database
//	pgxfold   the same on pgx, with the module pgxfold
//
// Beside each figure stands the most connections that the server had for the contender at the end of a slice.
//
// # Suite tenants
//
// A SQLite file for each of 10,000 users, on tmpfs and on a disk, each with the counter of its user. It is the same 10,000 files for all
// contenders, one after the other. Where not all users have a file open, 200 have. All have WAL mode and synchronous=NORMAL.
//
//	hit-query, hit-exec  a point query; an update of one row: by one goroutine, whose user has its file open, and by 16 for 200 such users
//	miss       the same query for one user after the other, 200 others having their files open: to open, to read, to close another; by
//	           one goroutine, and by 16
//	mix        64 goroutines, 1,000 users, all open: nine point queries to one update
//	writers    the same, only updates
//	quiet      20 goroutines, 20 users, open: a point query
//	opening    the same, beside two goroutines that miss again and again; what takes those how long stands among the writes
//	memory     in a process of its own: what the 200 open files cost, each; and what the others of 10,000 users cost that had theirs open before
//
// The contenders:
//
//	by-hand       open the bare driver with the settings of "tuned" above, one statement, close
//	map           a map of handles of the bare driver, tuned, with a mutex; the least recently used is closed, if it is not in use: the baseline
//	              of hit and miss
//	map+cache     the same with _stmt_cache_size=64
//	store         a Store of dblocker with ConnectFunc and MaxOpenDatabases, and a handle of it for each statement
//	dblocker      a handle with {user} in the DSN
//	one-file      one file for all, and the bare driver, tuned: the baseline of mix and writers
//	dblocker-one  one file for all, and dblocker
//
// Each statement has its user's lock where there is one, so that WithUser, or a look into the map, is part of what is measured.
//
// # Files
//
// runner.go (rounds, slices), busy.go (busy processes), measure.go (goroutines, time, latencies), stats.go; for
// the suite calls engines.go, wrappers.go (contenders), calls.go (workloads); for the
// suite load stores.go and zombiezen.go (contenders), loads.go (workloads); for the suite scope scopesuite.go (contenders and
// workloads), pair.go (the other process) and proxy.go; for the suite tenants tenantstores.go (contenders), tenantsuite.go (workloads),
// tenantfiles.go and tenantmemory.go; report.go, table.go, svg.go.
package main
