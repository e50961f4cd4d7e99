// Package dblocker is a database/sql driver around the driver that a program already uses. It gives each user of the
// program a readers-writer lock. Reads of one user run together. Writes and transactions of one user run one at a time. Users
// do not wait for each other's locks.
//
// A program changes the name that it passes to [sql.Open], and tags its contexts:
//
//	db, err := sql.Open("dblocker", "sqlite3:app.db") // was: sql.Open("sqlite3", "app.db")
//	ctx = dblocker.WithUser(ctx, "123")               // once per request, e.g. in a middleware
//	rows, err := db.QueryContext(ctx, "SELECT ...")   // shared lock of user 123
//	_, err = db.ExecContext(ctx, "UPDATE ...")        // exclusive lock of user 123
//	tx, err := db.BeginTx(ctx, nil)                   // exclusive until Commit or Rollback
//
// # Index by task
//
//   - To open a database: [sql.Open] with the driver "dblocker"; [Register], [OpenDB] and [NewConnector] for other drivers and
//     connectors; [Openx] for sqlx.
//   - To say for whom a context works: [WithUser], once for each request; [Fork] for goroutines inside a request; [WithoutUser] for
//     work that belongs to no user; [UserKey] for code that should not import dblocker. [User] tells it.
//   - To say that a SELECT writes, as by a function of your own: [WithMode].
//   - To put several statements and other Go code under one lock: [Lock] and [RLock]; [Do] and [RDo] around a function; [TryLock] and
//     [TryRLock] without waiting; [LockUsers] for several users; [LockAll] for all, as for a migration; [Tag] and [Pin] as options.
//   - To have sqlx handles under a lock, or a database for each user: [New], [Store.ReadGetDB], [Store.RWGetDB], [DSNFunc],
//     [ConnectFunc]; [DatabaseName] and [UserOf] for the name that stands for an ID.
//   - To give each user a database with [sql.Open]: {user} in the DSN; [OnOpen] for migrations, [MaxOpenDatabases], [DatabaseIdle],
//     [CreateDatabases], [UntaggedDatabase]; [ErrNoDatabase].
//   - To do something with each user's database, as to migrate all: [EachUser], with [EachShared], [EachParallel], [EachProgress]; where the users
//     cannot be found, [EachOf] and [EachNamed]; [EachError] has what went wrong. To copy a database, or delete one: [Backup], [RemoveUser].
//   - To go on with a program for the original library: [NewWithUnlockAndStatementTimeouts], [NewWithConnectDBFuncAndTimeouts],
//     [DefaultConnectDBFunc].
//   - To set limits and timeouts: [Option], and the table below.
//   - To see who holds a lock and who waits: [Holds], [Stats], [Trace], [Logger]; to be told of what happens, [Observe], whose events are an [Event] each.
//   - To have the user in each line of a log: [SlogHandler].
//   - To keep several processes apart: [LockScope].
//   - To have writes to SQLite on disk when they are answered: [Durability].
//   - To handle errors: [LockError], [ErrLockTimeout] and [ErrDeadlock], after which the work may be tried again; [Retryable], which
//     tells whether it may; and the other variables.
//   - To find what a test leaves behind: the package dblocker/dblockertest.
//   - To see it on a live page of the program: the package dblocker/lockpage.
//   - To tag the requests of a web server, and to answer errors: the package dblocker/web.
//   - To reach the driver's own connection or pool: [RawConn], [Inner], [Driver.Unwrap].
//
// # Locks
//
// A Query takes the lock shared if the text of its statement is known to read,
// and exclusive otherwise: INSERT ... RETURNING, SELECT ... FOR UPDATE, several
// statements in one string and whatever is not understood. [WithMode] overrules
// that. Exec and Begin are exclusive; a transaction with [sql.TxOptions].ReadOnly
// is shared. Prepare and Ping take no lock, nor does what concerns only the session:
// SET, RESET, USE, LISTEN, PREPARE, a PRAGMA of the connection, a SELECT of nothing but
// set_config; and locks that the program names itself, by pg_advisory_lock or GET_LOCK.
// Operations whose context carries no user take no lock.
//
// A lock is held until Exec has returned, the rows are closed, or the transaction
// has ended, be it one of [sql.DB.BeginTx] or one that is written in SQL. If the
// connection is lost meanwhile, which is how some drivers cancel a statement, the lock
// is held until the server has ended the session, at most for cancel_grace.
//
// Requests wait for a lock in the order of arrival, at most as long as their
// contexts and lock_timeout allow. The error is then a [*LockError], which names
// what was in the way. A request that waits holds no database connection. Deadlocks are found
// at once: one request gets [ErrDeadlock], the others continue.
//
// Handles on the same database share their locks within a process, and with [DatabaseScope] among processes.
//
// # Owners
//
// What is done with a context of [WithUser], and with contexts made from it, belongs
// to one owner: a request, one thread of control. It does not wait for itself where
// it would not on the bare driver: in a loop over its own rows, or on the sql.DB
// beside its own transaction. It is still one where an inner layer tags its context again.
// Parallel parts of a request take a [Fork] each.
//
// # Sections
//
// [Lock] and [RLock] put several statements and other Go code under one lock: all that
// is done with the context that they return is inside the section, until its unlock. A
// [Store] hands out sqlx handles that are each inside a section.
//
// # Opening
//
// The data source name of the driver "dblocker" is driver[?options]:inner-dsn. The
// inner DSN is passed on as it is, but for what a SQLite database needs to be one for
// all connections. URLs that begin with postgres://, postgresql://, mysql://,
// sqlite3:// or sqlite:// stand for driver and DSN together. The drivers sqlite3-dblocker,
// postgres-dblocker, mysql-dblocker, pgx-dblocker and sqlite-dblocker take the
// unchanged DSN of the driver that they wrap, and no options. For other drivers there are [Register], [NewConnector] and [OpenDB].
//
// mattn/go-sqlite3, lib/pq and go-sql-driver/mysql are linked. With CGO_ENABLED=0 a program needs no C compiler, and has no
// "sqlite3". The build tag dblocker_noinner leaves all three out: then import the driver that is used.
//
// # Options
//
// [Register], [NewConnector], [OpenDB] and [New] take options in Go. In a DSN of the driver "dblocker" they stand before the first colon, as in
// "sqlite3?lock_timeout=5s&untagged=warn:app.db", and in a URL they may stand in the query.
//
//	DSN                 Go                default
//	lock_timeout        LockTimeout       30s; 2m for connections, and for a Store
//	self_wait           SelfWait          5s
//	spill_limit         SpillLimit        67108864 (64 MiB)
//	spill_total         SpillTotal        268435456 (256 MiB)
//	trace               Trace             off
//	statement_timeout   StatementTimeout  0: no limit; 4m for a Store, but on SQLite
//	cancel_grace        CancelGrace       10s; PostgreSQL, MySQL and MariaDB
//	combine             Combine           on; SQLite
//	durability          Durability        driver; SQLite
//	stmt_cache          StmtCache         64; 0 for drivers of other engines
//	max_open_conns      MaxOpenConns      80 on PostgreSQL, 120 on MySQL and MariaDB, else 0: no limit
//	max_idle_conns      MaxIdleConns      16
//	conn_max_lifetime   ConnMaxLifetime   3m on MySQL and MariaDB, else 0: for ever
//	conn_max_idle_time  ConnMaxIdleTime   5m on PostgreSQL, MySQL and MariaDB, else 0: for ever
//	untagged            Untagged          pass
//	max_open_databases  MaxOpenDatabases  100; 0 for a Store with functions: no limit; with a database for each user
//	database_idle       DatabaseIdle      1m; with a database for each user
//	create              CreateDatabases   on; SQLite, with a database for each user
//	untagged_database   UntaggedDatabase  none; servers, with a database for each user
//	lockspace           Lockspace         the database
//	lock_scope          LockScope         process
//	lock_readers        LockReaders       4; MySQL and MariaDB, with lock_scope=database
//	pooler              Pooler            none; PostgreSQL
//	debug_after         DebugAfter        10s
//	dialect             Dialect           recognized by the driver
//
// In Go only: [Logger], which is [slog.Default] by default; [Observe]; [OnOpen], with a database for each user; [DSNFunc] and [ConnectFunc], for [New].
//
// # Connections
//
// What a [sql.DB] counts as connections are client connections, which cost
// nothing. The connections to the server are in a pool of ours: bound them with
// the option max_open_conns, not with [sql.DB.SetMaxOpenConns], whose slots would
// be held by those who wait for a lock. A server connection is opened by the first
// statement that needs one: [sql.DB.Conn] succeeds without a server.
//
// # Versions of Go
//
// The database/sql of Go 1.27.0 can stop for ever when rows are closed, also by the end of their
// context, while they are read (https://go.dev/issue/81043). Use Go 1.27.1 or later.
package dblocker
