// Package dblocker is a database/sql driver that stands between a program and the
// driver it already uses, and puts each user's work behind a readers-writer lock.
//
// A program changes the name it passes to [sql.Open], and tags its contexts:
//
//	db, err := sql.Open("dblocker", "sqlite3:app.db") // was: sql.Open("sqlite3", "app.db")
//	ctx = dblocker.WithUser(ctx, "123")               // once per request, e.g. in a middleware
//	rows, err := db.QueryContext(ctx, "SELECT ...")   // shared lock of user 123
//	_, err = db.ExecContext(ctx, "UPDATE ...")        // exclusive lock of user 123
//	tx, err := db.BeginTx(ctx, nil)                   // exclusive until Commit or Rollback
//
// Queries of one user share the lock, writes and transactions have it alone, and
// the users do not wait for each other. Who waits holds no database connection.
// Operations whose context carries no user take no lock.
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
//
// A lock is held until Exec has returned, the rows are closed, or the transaction
// has ended, be it one of [sql.DB.BeginTx] or one that is written in SQL. If the
// connection is lost meanwhile, which is how some drivers cancel a statement, it
// is held until the server has ended the session, at most for cancel_grace.
//
// What waits for a lock waits in the order of arrival, at most as long as its
// context and lock_timeout allow. The error is then a [*LockError], which names
// what was in the way. Those who wait for each other in a circle are found at once,
// and one gets [ErrDeadlock].
//
// Handles on the same database share their locks within a process.
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
