package compat

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/calmdocs/dblocker"
)

// commonSteps run on every driver.
var commonSteps = []step{
	{"handle", stepHandle},
	{"column types", stepColumnTypes},
	{"arguments", stepArguments},
	{"argument errors", stepArgumentErrors},
	{"results", stepResults},
	{"returning", stepReturning},
	{"big values", stepBigValues},
	{"raw bytes stay until the next row", stepRawBytes},
	{"prepared statements", stepPrepared},
	{"prepared statement on many connections", stepPreparedOnManyConns},
	{"prepared statement and a change of schema", stepPreparedAndSchema},
	{"transactions", stepTransactions},
	{"savepoints", stepSavepoints},
	{"transaction options", stepTxOptions},
	{"transaction ended by its context", stepTxContext},
	{"transaction after an error", stepTxAfterError},
	{"session of a connection", stepConn},
	{"nested queries", stepNested},
	{"server errors", stepServerErrors},
	{"contexts that have ended", stepEndedContexts},
	{"rows whose context ends", stepRowsContext},
	{"statement whose context ends", stepSlow},
	{"closed handles", stepClosed},
}

func stepHandle(s *session) {
	s.note("ping: %s", describeError(s.db.PingContext(s.ctx)))
	s.note("db.Driver() is a %T", s.db.Driver())
	conn := s.conn()
	s.note("Conn.Raw shows a %s", rawType(conn))
	s.inner(conn, func(inner any) { s.note("the inner connection is a %T", inner) })
	s.note("db.Stats() %+v", s.db.Stats())
	s.note("close: %s", describeError(conn.Close()))
}

func rawType(conn *sql.Conn) (name string) {
	conn.Raw(func(dc any) error {
		name = fmt.Sprintf("%T", dc)
		return nil
	})
	return name
}

// inner calls f with the inner driver's connection, which a program gets to
// through ours by one more Raw.
func (s *session) inner(conn *sql.Conn, f func(inner any)) {
	err := conn.Raw(func(dc any) error {
		if ours, ok := dc.(dblocker.RawConn); ok {
			return ours.Raw(func(inner any) error { f(inner); return nil })
		}
		f(dc)
		return nil
	})
	if err != nil {
		s.Error(err)
	}
}

func (s *session) conn() *sql.Conn {
	conn, err := s.db.Conn(s.ctx)
	if err != nil {
		s.Fatal(err)
	}
	return conn
}

func (s *session) begin(opts *sql.TxOptions) *sql.Tx {
	tx, err := s.db.BeginTx(s.ctx, opts)
	if err != nil {
		s.Fatal(err)
	}
	return tx
}

// table makes a table with a row for each number up to rows.
func (s *session) table(name string, rows int) {
	s.mustExec(fmt.Sprintf("CREATE TABLE %s (id %s PRIMARY KEY, name %s)", name, s.words.integer, s.words.text))
	for i := range rows {
		s.exec(s.db, fmt.Sprintf("INSERT INTO %s VALUES (%d, 'row %d')", name, i+1, i+1))
	}
}

// stepArguments stores each argument in a column of each type: it is converted,
// or refused, by the driver or by the server.
func stepArguments(s *session) {
	w := s.words
	columns := []string{"i", "f", "t", "b", "o", "d"}
	types := []string{w.integer, w.float, w.text, w.blob, w.boolean, w.time}
	defs := ""
	for i, c := range columns {
		defs += ", " + c + " " + types[i]
	}
	s.mustExec(fmt.Sprintf("CREATE TABLE arguments (id %s%s)", w.integer, defs))
	for n, arg := range arguments {
		for _, c := range columns {
			s.note("argument %d in column %s", n, c)
			s.exec(s.db, fmt.Sprintf("INSERT INTO arguments (id, %s) VALUES (%d, ?)", c, n), arg())
		}
	}
	s.query(s.db, "SELECT * FROM arguments ORDER BY id, i, f, t, b, o, d")
}

// arguments are made anew for each use, for some drivers keep them.
var arguments = []func() any{
	func() any { return nil },
	func() any { return int64(-1 << 63) },
	func() any { return int8(-7) },
	func() any { return uint64(1<<64 - 1) },
	func() any { return 1.5e300 },
	func() any { return float32(0.1) },
	func() any { return true },
	func() any { return "" },
	func() any { return "text with \\ ' \" ü 🙂" },
	func() any { return "42" },
	func() any { return []byte{0, 255, 39, 92} },
	func() any { return []byte{} },
	func() any { return []byte(nil) },
	func() any { return sql.RawBytes("raw") },
	func() any { return time.Date(2024, 2, 29, 23, 59, 59, 123456789, time.UTC) },
	func() any { return time.Date(1, 1, 1, 0, 0, 0, 0, time.FixedZone("east", 7*3600)) },
	func() any { return time.Duration(5) },
	func() any { return new(int) },
	func() any { return (*string)(nil) },
	func() any { return sql.NullString{} },
	func() any { return sql.NullInt64{Int64: 3, Valid: true} },
	func() any { return sql.Null[float64]{V: 2.5, Valid: true} },
	func() any { return celsius(36.6) },
	func() any { return &[]celsius{1}[0] },
	func() any { return (*celsius)(nil) },
	func() any { return failing{} },
	func() any { return named("a string type") },
	func() any { return []string{"a", "b"} },
	func() any { return struct{ A int }{1} },
	func() any { return make(chan int) },
	func() any { return sql.Out{} },
}

type named string

// celsius is a Valuer by value: of a nil *celsius database/sql makes NULL.
type celsius float64

func (c celsius) Value() (driver.Value, error) { return float64(c), nil }

type failing struct{}

var errFailing = errors.New("this Valuer fails")

func (failing) Value() (driver.Value, error) { return nil, errFailing }

func stepArgumentErrors(s *session) {
	s.table("counted", 1)
	one, two := "SELECT name FROM counted WHERE id = ?", "UPDATE counted SET name = ? WHERE id = ?"
	for _, args := range [][]any{nil, {1}, {1, 2, 3}, {sql.Named("id", 1)}, {sql.Named("", 1)}, {sql.Named("9", 1)}} {
		s.note("%d arguments", len(args))
		s.query(s.db, one, args...)
		s.exec(s.db, two, args...)
	}
	s.query(s.db, "SELECT name FROM counted WHERE id = @id", sql.Named("id", 1))
	s.query(s.db, "SELECT name FROM counted WHERE id = :id", sql.Named("id", 1))
	_, err := s.db.ExecContext(s.ctx, s.bind("UPDATE counted SET name = ?"), failing{})
	s.note("the Valuer's own error is in the chain: %v", errors.Is(err, errFailing))
}

func stepResults(s *session) {
	s.mustExec(fmt.Sprintf("CREATE TABLE results (id %s, name %s)", s.words.serial, s.words.text))
	s.exec(s.db, "INSERT INTO results (name) VALUES ('a'), ('b'), ('c')")
	s.exec(s.db, "INSERT INTO results (name) VALUES (?)", "d")
	s.exec(s.db, "UPDATE results SET name = 'x' WHERE id > 1")
	s.exec(s.db, "UPDATE results SET name = 'x' WHERE id > 1")
	s.exec(s.db, "DELETE FROM results WHERE id > 100")
	s.exec(s.db, "SELECT * FROM results")
	s.exec(s.db, "")
	if !s.noEmptyQuery {
		s.query(s.db, "")
		s.query(s.db, "-- only a comment")
	}
	s.query(s.db, "SELECT id, name, id, 1, NULL FROM results WHERE id = 1")
	s.query(s.db, "SELECT * FROM results WHERE id = 0")
	s.query(s.db, "DELETE FROM results")
	s.query(s.db, "CREATE TABLE by_query (id int)")
	s.query(s.db, "SELECT * FROM by_query")
}

func stepReturning(s *session) {
	s.mustExec(fmt.Sprintf("CREATE TABLE returned (id %s, name %s)", s.words.serial, s.words.text))
	insert := "INSERT INTO returned (name) VALUES (?), ('fixed') RETURNING id, name"
	s.query(s.db, insert, "by query")
	s.exec(s.db, insert, "by exec")
	var id int
	var name string
	err := s.db.QueryRowContext(s.ctx, s.bind(insert), "by row").Scan(&id, &name)
	s.note("row %d %s, %s", id, name, describeError(err))
	s.query(s.db, "SELECT * FROM returned ORDER BY id")
	err = s.db.QueryRowContext(s.ctx, "SELECT id FROM returned WHERE id = 0").Scan(&id)
	s.note("no row: %s", describeError(err))
}

func stepBigValues(s *session) {
	s.mustExec(fmt.Sprintf("CREATE TABLE big (id %s, t %s, b %s)", s.words.integer, s.words.longText, s.words.blob))
	text, blob := strings.Repeat("långt ", 50_000), make([]byte, 2<<20)
	for i := range blob {
		blob[i] = byte(i * 7 / 3)
	}
	s.exec(s.db, "INSERT INTO big VALUES (1, ?, ?)", text, blob)
	s.exec(s.db, "INSERT INTO big VALUES (2, ?, ?)", "", []byte{})
	s.query(s.db, "SELECT * FROM big WHERE id > ? ORDER BY id", 0)
	s.read("as raw bytes", func() (*sql.Rows, error) { return s.db.QueryContext(s.ctx, "SELECT b, t FROM big ORDER BY id") },
		[]func() any{to[sql.RawBytes]})
}

// stepRawBytes holds on to raw bytes of a row as long as it may.
func stepRawBytes(s *session) {
	s.table("raw", 3)
	rows, err := s.db.QueryContext(s.ctx, "SELECT name, id FROM raw ORDER BY id")
	if err != nil {
		s.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name, id sql.RawBytes
		err := rows.Scan(&name, &id)
		s.note("scanned %q %q, %s", name, id, describeError(err))
	}
	s.note("end: %s", describeError(rows.Err()))
}

func stepPrepared(s *session) {
	s.table("prepared", 3)
	stmt, err := s.db.PrepareContext(s.ctx, s.bind("SELECT name FROM prepared WHERE id >= ? ORDER BY id"))
	if err != nil {
		s.Fatal(err)
	}
	for _, args := range [][]any{{1}, {3}, {"2"}, {nil}, {}, {1, 2}, {sql.Named("id", 1)}, {"no number"}, {failing{}}} {
		s.query(prepared{stmt}, "prepared", args...)
	}
	s.exec(prepared{stmt}, "prepared", 1)
	s.inTx(stmt)
	s.note("close: %s", describeError(stmt.Close()))
	s.query(prepared{stmt}, "closed", 1)

	update, err := s.db.PrepareContext(s.ctx, s.bind("UPDATE prepared SET name = ? WHERE id = ?"))
	if err != nil {
		s.Fatal(err)
	}
	defer update.Close()
	for i := range 4 {
		s.exec(prepared{update}, "update", fmt.Sprint("new ", i), i)
	}
	for _, bad := range []string{"SELEC 1", "SELECT * FROM nowhere", "SELECT ?"} {
		stmt, err := s.db.PrepareContext(s.ctx, s.bind(bad))
		s.note("prepare %q: %s", bad, describeError(err))
		if err == nil {
			s.query(prepared{stmt}, bad, 1)
			stmt.Close()
		}
	}
}

// inTx uses a statement of the handle in a transaction, beside one of its own.
func (s *session) inTx(stmt *sql.Stmt) {
	tx := s.begin(nil)
	defer tx.Rollback()
	s.exec(tx, "UPDATE prepared SET name = 'in the transaction'")
	s.query(prepared{tx.StmtContext(s.ctx, stmt)}, "prepared, in a transaction", 1)
	own, err := tx.PrepareContext(s.ctx, "SELECT id FROM prepared ORDER BY id")
	if err != nil {
		s.Fatal(err)
	}
	s.query(prepared{own}, "the transaction's own")
	s.note("rollback: %s", describeError(tx.Rollback()))
	s.query(prepared{own}, "the transaction's own, after its end")
}

// stepPreparedOnManyConns uses statements that outlive the connections they were
// prepared on: others are busy, and the ones in use change.
func stepPreparedOnManyConns(s *session) {
	s.table("shared_statement", 20)
	stmt, err := s.db.PrepareContext(s.ctx, s.bind("SELECT name FROM shared_statement WHERE id = ?"))
	if err != nil {
		s.Fatal(err)
	}
	defer stmt.Close()
	var busy []*sql.Conn
	for range 4 {
		conn := s.conn()
		s.query(conn, "SELECT 1")
		busy = append(busy, conn)
		s.query(prepared{stmt}, "beside busy connections", len(busy))
	}
	for _, conn := range busy {
		conn.Close()
	}
	s.note("wrong or failed: %d", s.hammer(stmt))
}

// hammer runs a statement concurrently and counts what went wrong.
func (s *session) hammer(stmt *sql.Stmt) int {
	var mu sync.Mutex
	var wg sync.WaitGroup
	wrong := 0
	for worker := range 8 {
		wg.Go(func() {
			for i := range 25 {
				id := (worker+i)%20 + 1
				var name string
				err := stmt.QueryRowContext(s.ctx, id).Scan(&name)
				if err != nil || name != fmt.Sprintf("row %d", id) {
					mu.Lock()
					wrong++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return wrong
}

// stepPreparedAndSchema changes a table under a prepared statement. On one
// connection, or it would be chance which one meets the change.
func stepPreparedAndSchema(s *session) {
	s.table("changed", 1)
	conn := s.conn()
	defer conn.Close()
	stmt, err := conn.PrepareContext(s.ctx, "SELECT * FROM changed")
	if err != nil {
		s.Fatal(err)
	}
	defer stmt.Close()
	s.query(prepared{stmt}, "before")
	s.exec(conn, "ALTER TABLE changed ADD COLUMN more "+s.words.integer)
	s.query(prepared{stmt}, "changed")
	s.query(prepared{stmt}, "changed, once more")
	s.query(conn, "SELECT * FROM changed")
	s.exec(conn, "DROP TABLE changed")
	s.query(prepared{stmt}, "dropped")
}

func stepTransactions(s *session) {
	s.table("tx", 1)
	for _, end := range []func(*sql.Tx) error{(*sql.Tx).Commit, (*sql.Tx).Rollback} {
		tx := s.begin(nil)
		s.exec(tx, "UPDATE tx SET name = concat(name, '!') WHERE id = ?", 1)
		s.query(tx, "SELECT * FROM tx")
		s.note("end: %s", describeError(end(tx)))
		s.exec(tx, "UPDATE tx SET name = 'late'")
		s.query(tx, "SELECT * FROM tx")
		s.note("end again: %s", describeError(end(tx)))
		s.query(s.db, "SELECT * FROM tx")
	}
}

func stepSavepoints(s *session) {
	s.table("savepoints", 0)
	tx := s.begin(nil)
	for _, statement := range []string{
		"INSERT INTO savepoints VALUES (1, 'kept')",
		"SAVEPOINT outer_one",
		"INSERT INTO savepoints VALUES (2, 'undone')",
		"SAVEPOINT inner_one",
		"INSERT INTO savepoints VALUES (2, 'not unique')",
		"ROLLBACK TO SAVEPOINT inner_one",
		"ROLLBACK TO SAVEPOINT outer_one",
		"INSERT INTO savepoints VALUES (3, 'kept')",
		"RELEASE SAVEPOINT outer_one",
	} {
		s.exec(tx, statement)
	}
	s.note("commit: %s", describeError(tx.Commit()))
	s.query(s.db, "SELECT * FROM savepoints ORDER BY id")
}

func stepTxOptions(s *session) {
	s.table("options", 1)
	for level := sql.LevelDefault; level <= sql.LevelLinearizable+1; level++ {
		if s.noWeakLevels && level != sql.LevelDefault && level != sql.LevelSerializable && level != sql.LevelLinearizable {
			continue
		}
		tx, err := s.db.BeginTx(s.ctx, &sql.TxOptions{Isolation: level})
		s.note("%v: %s", level, describeError(err))
		if err != nil {
			continue
		}
		s.query(tx, s.words.isolation)
		s.query(tx, "SELECT * FROM options")
		s.note("commit: %s", describeError(tx.Commit()))
	}
	tx := s.begin(&sql.TxOptions{ReadOnly: true})
	s.query(tx, "SELECT * FROM options")
	s.note("rollback: %s", describeError(tx.Rollback()))
	tx = s.begin(&sql.TxOptions{ReadOnly: true})
	s.exec(tx, "UPDATE options SET name = 'written'")
	s.note("rollback: %s", describeError(tx.Rollback()))
}

func stepTxContext(s *session) {
	s.table("ended", 1)
	ctx, cancel := context.WithCancel(s.ctx)
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		s.Fatal(err)
	}
	s.exec(tx, "UPDATE ended SET name = 'undone'")
	cancel()
	s.await(func() bool { return errors.Is(tx.Rollback(), sql.ErrTxDone) })
	s.exec(tx, "UPDATE ended SET name = 'late'")
	s.note("commit: %s", describeError(tx.Commit()))
	s.query(s.db, "SELECT * FROM ended")

	_, err = s.db.BeginTx(ctx, nil)
	s.note("begin with an ended context: %s", describeError(err))
}

// await waits for what happens in the background.
func (s *session) await(done func() bool) {
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.Fatal("what was awaited does not come")
		}
	}
}

func stepTxAfterError(s *session) {
	s.table("after_error", 1)
	tx := s.begin(nil)
	s.exec(tx, "INSERT INTO after_error VALUES (2, 'before the error')")
	s.exec(tx, "INSERT INTO after_error VALUES (1, 'not unique')")
	s.exec(tx, "INSERT INTO after_error VALUES (3, 'after the error')")
	s.query(tx, "SELECT * FROM after_error ORDER BY id")
	s.note("commit: %s", describeError(tx.Commit()))
	s.query(s.db, "SELECT * FROM after_error ORDER BY id")
}

// stepConn checks that a sql.Conn is one session on the server: temporary tables
// and transactions in SQL last from statement to statement.
func stepConn(s *session) {
	conn := s.conn()
	s.exec(conn, fmt.Sprintf("CREATE TEMPORARY TABLE of_session (id %s)", s.words.integer))
	s.exec(conn, "INSERT INTO of_session VALUES (?)", 1)
	s.query(conn, "SELECT * FROM of_session")
	s.query(s.db, "SELECT * FROM of_session")
	s.exec(conn, "BEGIN")
	s.exec(conn, "INSERT INTO of_session VALUES (2)")
	s.exec(conn, "ROLLBACK")
	s.query(conn, "SELECT * FROM of_session")
	tx, err := conn.BeginTx(s.ctx, nil)
	if err != nil {
		s.Fatal(err)
	}
	s.exec(tx, "INSERT INTO of_session VALUES (3)")
	s.note("commit: %s", describeError(tx.Commit()))
	s.query(conn, "SELECT * FROM of_session ORDER BY id")
	s.note("ping: %s", describeError(conn.PingContext(s.ctx)))
	s.exec(conn, "DROP TABLE of_session")
	s.note("close: %s", describeError(conn.Close()))
	s.query(conn, "SELECT 1")
	s.note("close again: %s", describeError(conn.Close()))
}

// stepNested reads inside open rows, on another connection and on a connection
// of its own.
func stepNested(s *session) {
	s.table("nested", 3)
	rows, err := s.db.QueryContext(s.ctx, "SELECT id FROM nested ORDER BY id")
	if err != nil {
		s.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id int
		s.note("scan: %s", describeError(rows.Scan(&id)))
		s.query(s.db, "SELECT name FROM nested WHERE id = ?", id)
	}
	s.note("end: %s", describeError(rows.Err()))
}

func stepServerErrors(s *session) {
	s.table("errors", 2)
	s.mustExec("CREATE UNIQUE INDEX one_name ON errors (name)")
	for _, statement := range []string{
		"SELEC 1",
		"SELECT * FROM nowhere",
		"SELECT nothing FROM errors",
		"SELECT '",
		"INSERT INTO errors VALUES (1, 'same key')",
		"INSERT INTO errors VALUES (3, 'row 1')",
		"INSERT INTO errors VALUES (1, 2, 3, 4)",
		"INSERT INTO errors VALUES ('no number', 'x')",
		"CREATE TABLE errors (id int)",
		"COMMIT",
		s.words.divideByZero,
	} {
		s.exec(s.db, statement)
		s.query(s.db, statement)
		s.query(s.db, statement+" -- ?", 1)
	}
	s.query(s.db, "SELECT * FROM errors ORDER BY id")
}

func stepEndedContexts(s *session) {
	cancelled, cancel := context.WithCancel(s.ctx)
	cancel()
	late, stop := context.WithDeadline(s.ctx, time.Now().Add(-time.Second))
	defer stop()
	cause, end := context.WithCancelCause(s.ctx)
	end(errFailing)
	for _, ctx := range []context.Context{cancelled, late, cause} {
		s.execContext(ctx, s.db, "CREATE TABLE never (id int)")
		s.queryContext(ctx, s.db, "SELECT 1")
		s.note("ping: %s", describeError(s.db.PingContext(ctx)))
		_, err := s.db.PrepareContext(ctx, "SELECT 1")
		s.note("prepare: %s", describeError(err))
		_, err = s.db.BeginTx(ctx, nil)
		s.note("begin: %s", describeError(err))
		_, err = s.db.Conn(ctx)
		s.note("conn: %s", describeError(err))
	}
	s.query(s.db, "SELECT * FROM never")
}

func stepRowsContext(s *session) {
	s.table("interrupted", 5)
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	rows, err := s.db.QueryContext(ctx, "SELECT id FROM interrupted ORDER BY id")
	if err != nil {
		s.Fatal(err)
	}
	s.note("first row: %v", rows.Next())
	cancel()
	// The error is there before database/sql closes the rows, which gives the connection back last.
	s.await(func() bool { return s.db.Stats().InUse == 0 })
	var id int
	s.note("next: %v", rows.Next())
	s.note("scan: %s", describeError(rows.Scan(&id)))
	s.note("end: %s", describeError(rows.Err()))
	s.note("close: %s", describeError(rows.Close()))
	s.exec(s.db, "UPDATE interrupted SET name = 'free'")
}

// stepSlow does not note the errors: it is chance whether a driver reports the
// end of the context or what the server says to a cancel request.
func stepSlow(s *session) {
	for _, run := range []func(context.Context) error{s.slowExec, s.slowQuery, s.slowTx} {
		ctx, cancel := context.WithTimeout(s.ctx, 150*time.Millisecond)
		start := time.Now()
		err := run(ctx)
		s.note("ends early %v, an error %v", time.Since(start) < s.words.slowFor*3/4, err != nil)
		cancel()
	}
	s.query(s.db, "SELECT 1")
}

func (s *session) slowExec(ctx context.Context) error {
	_, err := s.db.ExecContext(ctx, s.words.slow)
	return err
}

func (s *session) slowQuery(ctx context.Context) error { return drain(ctx, s.db, s.words.slow) }

func (s *session) slowTx(ctx context.Context) error {
	tx := s.begin(nil)
	defer tx.Rollback()
	return drain(ctx, tx, s.words.slow)
}

// drain reads a query to its end.
func drain(ctx context.Context, on querier, query string) error {
	rows, err := on.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
	}
	return rows.Err()
}

func stepClosed(s *session) {
	stmt, err := s.db.PrepareContext(s.ctx, "SELECT 1")
	if err != nil {
		s.Fatal(err)
	}
	rows, err := s.db.QueryContext(s.ctx, "SELECT 1")
	if err != nil {
		s.Fatal(err)
	}
	s.note("close of the rows: %s, and again: %s", describeError(rows.Close()), describeError(rows.Close()))
	_, err = rows.Columns()
	s.note("columns of closed rows: %s", describeError(err))
	s.note("close of the handle: %s, and again: %s", describeError(s.db.Close()), describeError(s.db.Close()))
	s.query(s.db, "SELECT 1")
	s.exec(s.db, "SELECT 1")
	s.query(prepared{stmt}, "prepared")
	s.note("close of the statement: %s", describeError(stmt.Close()))
	_, err = s.db.BeginTx(s.ctx, nil)
	s.note("begin: %s", describeError(err))
	s.note("ping: %s", describeError(s.db.PingContext(s.ctx)))
}
