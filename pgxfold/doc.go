// Package pgxfold has statements on pgx ask for their lock in the message that they are sent in, with [dblocker.DatabaseScope].
//
//	import _ "github.com/calmdocs/dblocker/pgxfold"
//
// That is all there is to do. Without it an Exec or a Query by itself, of a user whose lock this process does not have just
// then, takes two round trips: one for the lock, and one for the statement. With it both go in one message, by pgx's pipeline. It is a module of its own, since
// dblocker does not depend on pgx.
//
// It is for pgx's package stdlib, and statements that are no transactions and no sections. Their results, types and errors are those of stdlib, whose
// conversion of values it uses. Some go the other way:
//
//   - An Exec without arguments, which pgx sends by the simple protocol; options of pgx, such as [pgx.NamedArgs], among the arguments; statements
//     prepared by [sql.DB.Prepare]; text that is more than one SELECT, INSERT, UPDATE, DELETE, MERGE or VALUES.
//   - On connections with a tracer, or another DefaultQueryExecMode than the default.
//   - Above READ COMMITTED: there the statement would see the database as it was before it had the lock. The server looks at the level itself.
//   - For a second after somebody else had the lock of the user: a statement that asks with the lock fails at the server if that is not
//     to be had, which the server logs; then dblocker waits for the lock, and sends the statement again, of which nothing was done.
//
// The first time that a connection has a text it prepares it, beside what pgx keeps prepared: that is one round trip more, as on stdlib. It keeps 256 of them.
// While rows are open, they are read as pgx reads them, row by row.
package pgxfold

import (
	_ "database/sql"

	_ "github.com/calmdocs/dblocker"
)
