package dblocker

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/calmdocs/dblocker/internal/sqltext"
)

// A sending is a statement on its way to a server connection.
type sending struct {
	statement sqltext.Statement
	query     string
	args      []driver.NamedValue
	inTx      bool // inside a transaction
}

// isKeepable tells whether a statement of its kind is worth to be kept, and does
// the same when it is prepared. Others are rare, or change what the kept ones mean.
func (s *sending) isKeepable() bool {
	if s.statement.Multi || s.statement.DDL {
		return false
	}
	switch s.statement.Verb {
	case "SELECT", "VALUES", "TABLE", "WITH", "INSERT", "UPDATE", "DELETE", "REPLACE", "MERGE":
		return true
	}
	return false
}

// hasNames tells whether an argument has a name.
func (s *sending) hasNames() bool {
	return slices.ContainsFunc(s.args, func(nv driver.NamedValue) bool { return nv.Name != "" })
}

// neverKeep is an argument count that no query reaches.
const neverKeep = 1 << 30

// leavesRows tells whether the statement, once executed, must be closed.
func (s *sending) leavesRows(d *dialect) bool {
	return d.leavesRows != nil && d.leavesRows(s.statement, s.query)
}

// exec executes a statement that is sent as text, by a kept statement if it can.
func (sc *serverConn) exec(ctx context.Context, s *sending) (driver.Result, error) {
	for tries := 0; ; tries++ {
		res, err := sc.execOnce(ctx, s)
		if err == nil || !sc.triesAgain(&err, s, tries) {
			return res, err
		}
	}
}

func (sc *serverConn) execOnce(ctx context.Context, s *sending) (driver.Result, error) {
	if s.leavesRows(sc.cfg.dialect) {
		return sc.ExecContext(ctx, s.query, s.args)
	}
	k, err := sc.keptFor(ctx, s)
	switch {
	case err != nil:
		return nil, err
	case k == nil:
		return sc.ExecContext(ctx, s.query, s.args)
	}
	defer k.letGo()
	return k.ExecContext(ctx, s.args)
}

// query is exec for a query. The rows have the kept statement, if one is returned,
// until they are closed.
func (sc *serverConn) query(ctx context.Context, s *sending) (driver.Rows, *keptStmt, error) {
	for tries := 0; ; tries++ {
		rows, k, err := sc.queryOnce(ctx, s)
		if err == nil || !sc.triesAgain(&err, s, tries) {
			return rows, k, err
		}
	}
}

func (sc *serverConn) queryOnce(ctx context.Context, s *sending) (rows driver.Rows, k *keptStmt, err error) {
	k, err = sc.keptFor(ctx, s)
	switch {
	case err != nil:
		return nil, nil, err
	case k == nil:
		rows, err = sc.QueryContext(ctx, s.query, s.args)
		return rows, nil, err
	}
	if rows, err = k.QueryContext(ctx, s.args); err != nil {
		k.letGo()
		return nil, nil, err
	}
	return rows, k, nil
}

// keptFor returns the kept statement for a text, or nil if the text is to be sent
// as it is: then the inner driver does with it what it always does.
func (sc *serverConn) keptFor(ctx context.Context, s *sending) (*keptStmt, error) {
	c := &sc.cache
	if sc.keepFrom > 0 && s.hasNames() {
		return nil, nil // the drivers of servers refuse them before they prepare
	}
	if c.size == 0 || len(s.args) < sc.keepFrom || !s.isKeepable() || !sc.canPrepare() {
		return nil, nil
	}
	k, there := c.take(s.query, sc.version())
	if k == nil {
		if there || !c.wants(s.query) {
			return nil, nil
		}
		ss, err := sc.prepare(ctx, s.query)
		if err != nil {
			return nil, err
		}
		k = c.add(s.query, ss, sc.version())
	}
	if n := k.si.NumInput(); n >= 0 && n != len(s.args) {
		k.letGo() // the inner driver has its own words, or even uses, for it
		return nil, nil
	}
	return k, nil
}

// prepareKept returns a statement for a client statement, which has it until it
// lets it go. found tells whether it was there.
func (sc *serverConn) prepareKept(ctx context.Context, s *sending) (k *keptStmt, found bool, err error) {
	keep := sc.cache.size > 0 && len(s.query) <= maxKeptText && s.isKeepable() && sc.canPrepare()
	there := false
	if keep {
		if k, there = sc.cache.take(s.query, sc.version()); k != nil {
			return k, true, nil
		}
	}
	ss, err := sc.prepare(ctx, s.query)
	switch {
	case err != nil:
		return nil, false, err
	case !keep || there:
		return unkept(ss), false, nil
	}
	return sc.cache.add(s.query, ss, sc.version()), false, nil
}

// canPrepare tells whether statements may be prepared and closed now: while rows
// are read, the connection of most engines is not free for it.
func (sc *serverConn) canPrepare() bool {
	return sc.open == nil || sc.cfg.dialect.stmtsOutliveConns
}

// version is how many changes were made that a statement prepared earlier may not
// know of.
func (sc *serverConn) version() int64 { return sc.schema.Load() + sc.cache.forgotten }

// maxRetries is how often a statement is sent again because it has to be prepared
// anew. Somebody may change the schema between its preparation and its execution.
const maxRetries = 2

// triesAgain tells whether to send a statement again after err, which says that
// nothing was executed. In a transaction the server may refuse that: there err is
// returned, with words of ours if only our keeping the statement explains it. What is
// never kept, such as an EXECUTE of the program's own, has its error as it is.
func (sc *serverConn) triesAgain(err *error, s *sending, tries int) bool {
	c, d := &sc.cache, sc.cfg.dialect
	switch {
	case c.size == 0 || !s.isKeepable():
		return false
	case d.stmtsFull != nil && d.stmtsFull(*err): // others need the room
		c.clear()
		c.size = 0
		return true
	case d.staleStmt == nil || !d.staleStmt(*err):
		return false
	}
	c.forgotten++
	if s.inTx && sqlState(*err) == undefinedStatement {
		*err = &lostStmtError{*err}
	}
	return !s.inTx && tries < maxRetries
}

// A lostStmtError is the error of a kept statement that the server does not know.
type lostStmtError struct{ err error }

func (e *lostStmtError) Error() string {
	return fmt.Sprintf("%v; dblocker had prepared the statement on this connection: if a pooler such as pgbouncer is in between, "+
		"which may run each transaction on another server connection, open the database with stmt_cache=0", e.err)
}

func (e *lostStmtError) Unwrap() error { return e.err }

// noteEffects notes what a statement that was executed, or has failed, may have done
// to the statements that are kept.
func (c *conn) noteEffects(s *sending) {
	st := s.statement
	if st.Kind == sqltext.Read || c.db.stmtCache == 0 {
		return
	}
	temporary := st.DDL && containsFold(s.query, "TEMP") // perhaps by the name of a schema
	if st.DDL && !(temporary && onlyTemporary(st, s.query)) {
		c.pool.database.schema.Add(1)
		c.changesSchema = c.changesSchema || c.scope != nil // and again when others see it
	}
	sc, forgets := c.drawn.sc, c.db.dialect.forgets
	if sc != nil && (temporary || st.Multi || forgets != nil && forgets(st, s.query)) {
		sc.cache.forgotten++
	}
}

// onlyTemporary tells whether a statement that changes the schema does so for its own session
// only. That it says no is safe.
func onlyTemporary(st sqltext.Statement, query string) bool {
	words := strings.Fields(query)
	if st.Multi || len(words) < 4 {
		return false
	}
	word := words[1]
	if strings.EqualFold(word, "OR") { // REPLACE
		word = words[3]
	}
	return strings.EqualFold(word, "TEMP") || strings.EqualFold(word, "TEMPORARY")
}

// containsFold reports whether text contains the ASCII word, in whatever case.
func containsFold(text, word string) bool {
	for i := 0; i+len(word) <= len(text); i++ {
		if text[i]|0x20 == word[0]|0x20 && strings.EqualFold(text[i:i+len(word)], word) {
			return true
		}
	}
	return false
}

// sqlState returns the SQLSTATE of an error of PostgreSQL, or "".
func sqlState(err error) string {
	var e interface{ SQLState() string }
	if errors.As(err, &e) {
		return e.SQLState()
	}
	return ""
}

// field returns the field of that name of a struct, or of what points to one; the
// zero Value if there is none. It is for what drivers know and do not export, or
// export in types of packages that we do not import.
func field(v reflect.Value, name string) reflect.Value {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return reflect.Value{}
	}
	return v.FieldByName(name)
}

// configFlag returns a flag of the configuration that a connection of lib/pq or of
// go-sql-driver/mysql has. If it is not found, it is as if it were set.
func configFlag(ci driver.Conn, name string) bool {
	flag := field(field(reflect.ValueOf(ci), "cfg"), name)
	return flag.Kind() != reflect.Bool || flag.Bool()
}
