package compat

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
	modernc "modernc.org/sqlite"

	"github.com/calmdocs/dblocker"
)

// A session is one run of a step, bare or through dblocker. Whatever the program
// could observe goes into its transcript.
type session struct {
	testing.TB
	*engine
	ctx   context.Context
	db    *sql.DB
	dsn   string // that the bare driver takes
	lines []string

	quirks // of the driver
}

// A querier is a sql.DB, sql.Conn or sql.Tx, or a prepared statement.
type querier interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
}

// prepared makes a querier of a statement.
type prepared struct{ *sql.Stmt }

func (p prepared) ExecContext(ctx context.Context, _ string, args ...any) (sql.Result, error) {
	return p.Stmt.ExecContext(ctx, args...)
}

func (p prepared) QueryContext(ctx context.Context, _ string, args ...any) (*sql.Rows, error) {
	return p.Stmt.QueryContext(ctx, args...)
}

// note adds a line to the transcript.
func (s *session) note(format string, args ...any) {
	s.lines = append(s.lines, fmt.Sprintf(format, args...))
}

// hidden is what differs between any two runs: names and addresses, the OIDs of
// types that the script makes, pointers, and the errno that SQLite reads some calls after the one that failed.
var hidden = regexp.MustCompile(`dblocker_test_[0-9a-f]+|/[^ ]*/test\.db|127\.0\.0\.1:\d+|\b(is|OID) \d{5,}\b|\(0x[0-9a-f]{6,}\)` +
	`|SystemErrno=[a-z ]+`)

// lateErrno is that errno of a file that cannot be opened. By then it may be none.
var lateErrno = regexp.MustCompile(`(unable to open database file)(?:: [a-z ]+| SystemErrno=[a-z ]+)`)

func hide(text string) string {
	return hidden.ReplaceAllString(lateErrno.ReplaceAllString(text, "$1"), "…")
}

// TestLateErrnoIsNotCompared: whether SQLite has found one, and which, is a matter of chance.
func TestLateErrnoIsNotCompared(t *testing.T) {
	const without = `error "unable to open database file", Code=unable to open database file ExtendedCode=unable to open database file, as`
	const with = `error "unable to open database file: is a directory", Code=unable to open database file ExtendedCode=unable to open database file SystemErrno=is a directory, as`
	if got, want := hide(with), hide(without); got != want {
		t.Errorf("with an errno  %s\nwithout        %s", got, want)
	}
}

// bind puts the engine's placeholders in the place of question marks.
func (s *session) bind(query string) string { return sqlx.Rebind(s.bindType, query) }

// exec executes a statement and notes all there is to know of its result.
func (s *session) exec(on querier, query string, args ...any) {
	s.execContext(s.ctx, on, query, args...)
}

func (s *session) execContext(ctx context.Context, on querier, query string, args ...any) {
	res, err := on.ExecContext(ctx, s.bind(query), args...)
	if err != nil {
		s.note("exec %s: %s", abridge(query), describeError(err))
		return
	}
	s.note("exec %s: %s", abridge(query), describeResult(res))
}

// describeResult also knows the nil result of some drivers for an empty
// statement, of which database/sql makes one that panics.
func describeResult(res sql.Result) (text string) {
	defer func() {
		if p := recover(); p != nil {
			text = fmt.Sprint("panic: ", p)
		}
	}()
	n, nErr := res.RowsAffected()
	id, idErr := res.LastInsertId()
	return fmt.Sprintf("affected %d, %s; last id %d, %s", n, describeError(nErr), id, describeError(idErr))
}

// query runs a query and notes columns, column types, rows and result sets.
func (s *session) query(on querier, query string, args ...any) {
	s.queryContext(s.ctx, on, query, args...)
}

// queryContext sends what only reads so often that dblocker keeps it prepared, and
// then uses it once more.
func (s *session) queryContext(ctx context.Context, on querier, query string, args ...any) {
	times := 1
	if strings.HasPrefix(query, "SELECT") && (len(args) > 0 || s.engine.name == "sqlite") {
		times = 3
	}
	for range times {
		s.read(abridge(query), func() (*sql.Rows, error) { return on.QueryContext(ctx, s.bind(query), args...) }, anything)
	}
}

// anything shows a value as the driver gives it.
var anything = []func() any{to[any]}

// read notes all of a query's result. Each value is scanned into all dests.
func (s *session) read(title string, query func() (*sql.Rows, error), dests []func() any) {
	rows, err := query()
	if err != nil {
		s.note("query %s: %s", title, describeError(err))
		return
	}
	defer rows.Close()
	for set := 0; set == 0 || rows.NextResultSet(); set++ {
		s.note("query %s, result set %d", title, set)
		s.noteColumns(rows)
		for rows.Next() {
			s.noteRow(rows, dests)
		}
		s.note("end of rows: %s", describeError(rows.Err()))
	}
	s.note("close: %s", describeError(rows.Close()))
}

func (s *session) noteColumns(rows *sql.Rows) {
	columns, err := rows.Columns()
	s.note("columns %q, %s", columns, describeError(err))
	types, err := rows.ColumnTypes()
	s.note("column types: %s", describeError(err))
	for _, t := range types {
		length, hasLength := t.Length()
		nullable, hasNullable := t.Nullable()
		precision, scale, hasScale := t.DecimalSize()
		s.note("column %s is %s, scanned as %v, length %d %v, nullable %v %v, precision %d %d %v", t.Name(),
			t.DatabaseTypeName(), t.ScanType(), length, hasLength, nullable, hasNullable, precision, scale, hasScale)
	}
}

func (s *session) noteRow(rows *sql.Rows, dests []func() any) {
	columns, _ := rows.Columns()
	for _, dest := range dests {
		row := make([]any, len(columns))
		for i := range row {
			row[i] = dest()
		}
		if err := rows.Scan(row...); err != nil {
			s.note("scan into %T: %s", row[0], describeError(err))
			continue
		}
		for i, column := range columns {
			s.note("%s into %T: %s", column, row[i], show(row[i]))
		}
	}
}

// show writes the value that dest points to, with its type.
func show(dest any) string {
	switch v := reflect.ValueOf(dest).Elem().Interface().(type) {
	case []byte:
		return fmt.Sprintf("[]byte %v %s", v == nil, abridge(string(v)))
	case sql.RawBytes:
		return fmt.Sprintf("RawBytes %v %s", v == nil, abridge(string(v)))
	case string:
		return "string " + abridge(v)
	case time.Time:
		return fmt.Sprintf("time %s %v", v.Format(time.RFC3339Nano), v.Location())
	default:
		return fmt.Sprintf("%T %+v", v, v)
	}
}

// abridge shortens a long text and keeps it distinguishable.
func abridge(text string) string {
	if len(text) <= 200 {
		return fmt.Sprintf("%q", text)
	}
	return fmt.Sprintf("%q… %d bytes, SHA-256 %x", text[:40], len(text), sha256.Sum256([]byte(text)))
}

// describeError notes what a program can do with an error: read it, assert its
// type as GORM's translators do, look into the chain with errors.As and errors.Is.
func describeError(err error) string {
	if err == nil {
		return "no error"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "error %q", err)
	for e := err; e != nil; e = errors.Unwrap(e) {
		fmt.Fprintf(&b, ", %T%s", e, describeFields(e))
	}
	for _, k := range knownErrors {
		if k.matches(err) {
			fmt.Fprintf(&b, ", %s", k.name)
		}
	}
	return b.String()
}

var knownErrors = []struct {
	name    string
	matches func(error) bool
}{
	{"as *pq.Error", as[*pq.Error]},
	{"as *pgconn.PgError", as[*pgconn.PgError]},
	{"as *mysql.MySQLError", as[*mysql.MySQLError]},
	{"as sqlite3.Error", as[sqlite3Error]},
	{"as *sqlite.Error", as[*modernc.Error]},
	{"as *dblocker.LockError", as[*dblocker.LockError]},
	{"is context.Canceled", is(context.Canceled)},
	{"is context.DeadlineExceeded", is(context.DeadlineExceeded)},
	{"is sql.ErrNoRows", is(sql.ErrNoRows)},
	{"is sql.ErrTxDone", is(sql.ErrTxDone)},
	{"is sql.ErrConnDone", is(sql.ErrConnDone)},
	{"is driver.ErrBadConn", is(driver.ErrBadConn)},
	{"is driver.ErrSkip", is(driver.ErrSkip)},
}

func as[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func is(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

// describeFields lists the plain exported fields of an error, such as SQLSTATE
// and constraint, and its code where that is behind a method.
func describeFields(err error) string {
	var b strings.Builder
	if coded, ok := err.(interface{ Code() int }); ok {
		fmt.Fprintf(&b, " Code()=%d", coded.Code())
	}
	v := reflect.Indirect(reflect.ValueOf(err))
	if v.Kind() != reflect.Struct {
		return b.String()
	}
	for field, value := range v.Fields() {
		if field.IsExported() && value.Comparable() && value.Kind() != reflect.Interface && value.Kind() != reflect.Pointer && !value.IsZero() {
			fmt.Fprintf(&b, " %s=%v", field.Name, value)
		}
	}
	return b.String()
}
