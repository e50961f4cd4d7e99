// Package sqltext says what a statement does to a lock, from its text alone: does it only read, does it write, does it
// concern nothing but its session, does it begin or end a transaction, and is it one statement or several.
//
// One rule stands above all others: a statement is a [Read], or a [Session], only if its form is known. Whatever is unknown,
// malformed or depends on a setting of the server is a [Write], because a needless exclusive lock costs a little
// waiting, and a shared lock around a write costs data.
//
// The package knows no locks and asks no server. What text cannot show (a user-defined function that writes, a view
// that calls one) is left to the caller.
package sqltext

import (
	"strings"
	"unicode/utf8"
)

// Dialect is the SQL that an engine speaks.
type Dialect uint8

const (
	// Generic is an engine that we do not know: a statement is a Read only if it is one in every other dialect.
	Generic Dialect = iota
	SQLite
	PostgreSQL
	// MySQL is MariaDB too.
	MySQL
)

var dialectNames = [...]string{"generic", "sqlite", "postgresql", "mysql"}

func (d Dialect) String() string {
	if int(d) < len(dialectNames) {
		return dialectNames[d]
	}
	return "unknown dialect"
}

// Kind is what a statement does. The zero value is Write, the safe answer.
type Kind uint8

const (
	Write      Kind = iota
	Read            // changes nothing and locks no rows
	Session         // concerns nothing but the session, or takes or releases a lock that the program has named
	Begin           // BEGIN, START TRANSACTION
	Commit          // COMMIT, END; also PREPARE TRANSACTION, after which the connection is in no transaction
	Rollback        // ROLLBACK, ABORT
	Savepoint       // SAVEPOINT x, which begins a transaction in SQLite when none is open
	RollbackTo      // ROLLBACK TO x
	Release         // RELEASE x, which commits in SQLite when x is what began the transaction
	Empty           // nothing but space, comments and semicolons
)

var kindNames = [...]string{
	"write", "read", "session", "begin", "commit", "rollback", "savepoint", "rollback to", "release", "empty",
}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown kind"
}

// Statement is what the text of a query tells. Text that cannot be taken apart with certainty (a string whose end
// depends on a setting of the server, an open comment, MySQL's /*! */) is a Write with all of Multi, DDL, MayBegin and
// MayEnd set.
type Statement struct {
	Kind Kind

	// Verb is the first keyword in upper case, for WITH the verb of the main query; "" if it is none that we know.
	Verb string

	// Multi: several statements in one string; Kind is then Session if each of them is, else Write, and the other flags
	// are those of all of them together. The semicolons in the body of a CREATE TRIGGER count too.
	Multi bool

	// DDL: changes the schema, so that statements prepared before may have become stale.
	DDL bool

	// ReadOnly: a Begin that says READ ONLY.
	ReadOnly bool

	// Immediate: a Begin that says IMMEDIATE or EXCLUSIVE, so that SQLite takes its write lock at once.
	Immediate bool

	// Chain: a Commit or Rollback with AND CHAIN; the next transaction is open at once.
	Chain bool

	// LocksTables: MySQL's LOCK TABLES and its like, whose locks last until UNLOCK TABLES or the end of the session.
	LocksTables bool

	// MayBegin and MayEnd: beside what Kind says, a transaction may have begun, or the open one may have ended, and the
	// text does not tell: MySQL's CALL, SET autocommit and the statements that commit implicitly, or BEGIN and COMMIT
	// among several statements.
	MayBegin, MayEnd bool

	// Settles and Alters say whether the text may be prepared once and used again, and what it does to others that are
	// prepared. Both are those of all statements of the string together.
	Settles Settles
	Alters  Alters

	// Combines: a statement of SQLite that only writes rows, and that may run in one transaction with those of others, on
	// any connection.
	Combines bool
}

// unclear is the answer for text that cannot be taken apart with certainty.
func unclear(verb string) Statement {
	return Statement{Verb: verb, Multi: true, DDL: true, MayBegin: true, MayEnd: true, Settles: SettlesByTime, Alters: AltersSession}
}

// Classify says what query does in dialect d. It does not allocate.
func Classify(d Dialect, query string) Statement {
	if !plain(query) {
		return unclear("")
	}
	if d != Generic {
		s := classify(d, query)
		s.Combines = d == SQLite && combines(s, query)
		return s
	}
	s := classify(SQLite, query)
	s = common(s, classify(PostgreSQL, query))
	return common(s, classify(MySQL, query))
}

// plain reports whether all engines see the same characters in query. SQLite stops at a NUL, and what is not UTF-8 may
// be text in a character set whose letters contain the bytes of quotes and backslashes (GBK, Shift-JIS).
func plain(query string) bool {
	return strings.IndexByte(query, 0) < 0 && utf8.ValidString(query)
}

// common is what holds for an engine that may be the one of a or the one of b.
func common(a, b Statement) Statement {
	if a.Kind != b.Kind {
		a.mayBe(b.Kind)
		a.mayBe(a.Kind)
		a.Kind = Write
	}
	if a.Verb == "" {
		a.Verb = b.Verb
	}
	a.Multi = a.Multi || b.Multi
	a.DDL = a.DDL || b.DDL
	a.ReadOnly = a.ReadOnly && b.ReadOnly
	a.Immediate = a.Immediate || b.Immediate
	a.Chain = a.Chain || b.Chain
	a.LocksTables = a.LocksTables || b.LocksTables
	a.MayBegin = a.MayBegin || b.MayBegin
	a.MayEnd = a.MayEnd || b.MayEnd
	a.Settles = max(a.Settles, b.Settles)
	a.Alters = max(a.Alters, b.Alters)
	return a
}

// mayBe records the effect that a statement of kind k has on the transaction, without saying that it has it.
func (s *Statement) mayBe(k Kind) {
	switch k {
	case Begin, Savepoint:
		s.MayBegin = true
	case Commit, Rollback, Release:
		s.MayEnd = true
	}
}
