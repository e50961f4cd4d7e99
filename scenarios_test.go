package dblocker_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/fakedriver"
)

// A scenario is something that a program does with a handle.
type scenario struct {
	name      string
	run       func(*play)
	allowed   []difference
	arguments bool   // it tries all kinds of them
	tagged    string // why it is not for contexts with a user; else ""
	pins      bool   // it uses a sql.Conn
}

const (
	insert = "INSERT INTO t VALUES (?, ?)"
	choose = "SELECT * FROM t WHERE a = ? AND b = ?"
)

var scenarios = []scenario{
	{name: "ping", pins: true, run: func(p *play) {
		p.step("ping", func() error { return p.db.PingContext(p.ctx) })
		p.onConn(func(c *sql.Conn) {
			p.step("conn ping", func() error { return c.PingContext(p.ctx) })
		})
	}},
	{name: "plain statements", run: func(p *play) {
		for range 2 {
			p.exec(p.db, insert, 1, 2)
			p.query(p.db, choose, 1, 2)
		}
	}},
	{name: "arguments of Exec", arguments: true, run: func(p *play) { p.execAll(p.db) }},
	{name: "arguments of Query", arguments: true, run: func(p *play) { p.queryAll(p.db) }},
	{name: "a bad name", allowed: []difference{refusedEarly}, run: func(p *play) {
		p.exec(p.db, insert, sql.Named("1", 1), 2)
		p.query(p.db, choose, 1, sql.Named("?", 2))
	}},
	{name: "ErrSkip", run: func(p *play) {
		p.exec(p.db, "INSERT skip VALUES (?)", 1)
		p.exec(p.db, "INSERT skip VALUES (?)")
		p.exec(p.db, "INSERT skip "+anyArgs(), "a", fakedriver.Point{X: 1, Y: 2})
		p.query(p.db, "SELECT skip WHERE ?", 1)
		p.query(p.db, "SELECT skip WHERE ?", 1, 2)
		p.inTx(nil, func(tx *sql.Tx) {
			p.exec(tx, "INSERT skip VALUES (?)", 1)
			p.query(tx, "SELECT skip WHERE ?", 1)
		})
	}},
	{name: "statements of the handle", allowed: []difference{preparedAgain}, run: func(p *play) {
		ins, sel := p.prepare(p.db, insert), p.prepare(p.db, choose)
		for range 2 {
			p.exec(ins, "", 1, "a")
			p.query(sel, "", 1, "a")
		}
		p.exec(ins, "", 1)
		p.inTx(nil, func(tx *sql.Tx) {
			p.exec(p.txStmt(tx, ins), "", 1, "a")
			p.query(p.txStmt(tx, sel), "", 1, "a")
		})
		p.closeStmt(ins)
		p.exec(ins, "", 1, "a")
		p.closeStmt(sel)
	}},
	{name: "statements of a connection", pins: true, run: func(p *play) {
		p.onConn(func(c *sql.Conn) {
			ins := p.prepare(c, insert)
			p.exec(ins, "", 1, 2)
			p.exec(ins, "", 1)
			p.closeStmt(ins)
			sel := p.prepare(c, choose)
			p.query(sel, "", 1, 2)
			p.exec(sel, "", true, uint8(1))
			p.closeStmt(sel)
		})
	}},
	{name: "arguments of statements", pins: true, arguments: true, run: func(p *play) {
		p.onConn(func(c *sql.Conn) {
			ins := p.prepare(c, insert)
			p.execAll(ins)
			p.closeStmt(ins)
			sel := p.prepare(c, "SELECT "+anyArgs())
			p.queryAll(sel)
			p.closeStmt(sel)
		})
	}},
	{name: "a statement that outlives its connection", pins: true, allowed: []difference{preparedAgain}, run: func(p *play) {
		p.onConn(func(c *sql.Conn) {
			ins := p.prepare(c, insert)
			p.exec(ins, "", 1, 2)
			p.step("close conn", c.Close)
			p.exec(ins, "", 1, 2)
		})
		p.exec(p.db, insert, 1, 2)
	}},
	{name: "statements of a transaction", run: func(p *play) {
		p.inTx(nil, func(tx *sql.Tx) {
			ins := p.prepare(tx, insert)
			p.exec(ins, "", 1, 2)
			p.closeStmt(ins)
			p.query(p.prepare(tx, choose), "", 1, 2)
		})
	}},
	{name: "a session", pins: true, run: func(p *play) {
		p.onConn(func(c *sql.Conn) {
			p.exec(c, insert, 1, 2)
			p.query(c, choose, 1, 2)
			p.step("raw", func() error { return c.Raw(rawError) })
			p.begin(c, nil, func(tx *sql.Tx) {
				p.exec(tx, insert, 1, 2)
				p.step("commit", tx.Commit)
			})
			p.step("raw", func() error { return c.Raw(func(any) error { return nil }) })
			p.query(c, choose, 1, 2)
			p.step("close", c.Close)
			p.exec(c, insert, 1, 2)
		})
		p.onConn(func(c *sql.Conn) {
			p.exec(c, insert, 1, 2)
			p.step("raw", func() error { return c.Raw(func(any) error { return driver.ErrBadConn }) })
			p.exec(c, insert, 1, 2)
		})
		p.onConn(func(c *sql.Conn) {
			p.exec(c, insert, 1, 2)
			p.step("raw", func() error { return c.Raw(func(any) error { panic("in the callback") }) })
			p.exec(c, insert, 1, 2)
		})
		p.exec(p.db, insert, 1, 2)
	}},
	{name: "transactions", run: func(p *play) {
		for _, opts := range []*sql.TxOptions{
			nil, {}, {ReadOnly: true}, {Isolation: sql.LevelSerializable}, {Isolation: sql.LevelReadCommitted, ReadOnly: true},
		} {
			p.inTx(opts, func(tx *sql.Tx) { p.query(tx, choose, 1, 2) })
		}
		p.inTx(nil, func(tx *sql.Tx) { p.exec(tx, insert, 1, 2) })
		p.begin(p.db, nil, func(tx *sql.Tx) {
			p.exec(tx, insert, 1, 2)
			p.step("rollback", tx.Rollback)
			p.step("commit", tx.Commit)
			p.exec(tx, insert, 1, 2)
		})
		p.begin(p.db, nil, func(tx *sql.Tx) {
			p.open(tx, func(rows *sql.Rows) {
				p.step("next", nextError(rows))
				p.exec(tx, insert, 1, 2)
				p.step("commit", tx.Commit)
				p.step("next", nextError(rows))
			})
		})
	}},
	{name: "rows", run: func(p *play) {
		p.open(p.db, func(rows *sql.Rows) {
			p.step("next", nextError(rows))
			p.step("bad scan", func() error { var n int; return rows.Scan(&n, &n) })
			p.step("scan", func() error { var n int; var raw sql.RawBytes; return rows.Scan(&n, &raw) })
			p.step("next set", func() error { return answer(rows.NextResultSet()) })
			p.step("next", nextError(rows))
		})
	}},
	{name: "a single row", run: func(p *play) {
		p.step("query row", func() error {
			var n int
			var s string
			err := p.db.QueryRowContext(p.ctx, choose, 1, 2).Scan(&n, &s)
			p.note("%d %q", n, s)
			return err
		})
		p.exec(p.db, insert, 1, 2)
	}},
	{name: "two connections", run: func(p *play) {
		p.open(p.db, func(rows *sql.Rows) {
			p.step("next", nextError(rows))
			p.exec(p.db, insert, 1, 2)
		})
		p.exec(p.db, insert, 1, 2)
	}},
	{name: "the context of rows ends", run: func(p *play) {
		p.open(p.db, func(rows *sql.Rows) {
			p.step("next", nextError(rows))
			p.step("cancel", func() error { p.cancel(); return nil })
			p.step("next", nextError(rows))
			p.step("err", rows.Err)
		})
		p.exec(p.db, insert, 1, 2)
		p.ctx = fakedriver.Mark(context.Background(), "later")
		p.exec(p.db, insert, 1, 2)
	}},
	{name: "the context of a transaction ends", run: func(p *play) {
		p.begin(p.db, nil, func(tx *sql.Tx) {
			p.exec(tx, insert, 1, 2)
			p.step("cancel", func() error { p.cancel(); return nil })
			p.exec(tx, insert, 1, 2)
			p.step("commit", tx.Commit)
			p.step("rollback", tx.Rollback)
		})
		p.ctx = fakedriver.Mark(context.Background(), "later")
		p.exec(p.db, insert, 1, 2)
	}},
	{name: "the context of a transaction ends, with rows open", run: func(p *play) {
		p.begin(p.db, nil, func(tx *sql.Tx) {
			p.open(tx, func(rows *sql.Rows) {
				p.step("next", nextError(rows))
				p.step("cancel", func() error { p.cancel(); return nil })
				p.step("next", nextError(rows))
			})
			p.step("commit", tx.Commit)
		})
	}},
	{name: "the handle is closed", run: func(p *play) {
		p.exec(p.db, insert, 1, 2)
		p.open(p.db, func(rows *sql.Rows) {
			p.step("next", nextError(rows))
			p.step("close handle", p.db.Close)
			p.step("next", nextError(rows))
		})
		p.exec(p.db, insert, 1, 2)
		p.step("ping", func() error { return p.db.PingContext(p.ctx) })
	}},
}

// anyArgs are the parameters of a statement whose driver does not tell their
// number. Before Go 1.26, database/sql forgot the ColumnConverter of such a
// statement, which we do not: there the number is told.
func anyArgs() string {
	if strings.HasPrefix(runtime.Version(), "go1.25") {
		return "?, ?"
	}
	return "anyargs"
}

// answer turns a boolean into an error, for step to note.
func answer(yes bool) error { return fmt.Errorf("%t", yes) }

func nextError(rows *sql.Rows) func() error { return func() error { return answer(rows.Next()) } }

// rawError looks at the inner connection, through ours if there is ours.
func rawError(driverConn any) error {
	if c, ok := driverConn.(dblocker.RawConn); ok {
		return c.Raw(rawError)
	}
	_, pings := driverConn.(driver.Pinger)
	return fmt.Errorf("pings: %t", pings)
}

type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

type preparer interface {
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
}

type beginner interface {
	BeginTx(ctx context.Context, opts *sql.TxOptions) (*sql.Tx, error)
}

// prepared is a statement as an execer and queryer, which ignores the text.
type prepared struct{ *sql.Stmt }

func (s prepared) ExecContext(ctx context.Context, _ string, args ...any) (sql.Result, error) {
	if s.Stmt == nil {
		return nil, errors.New("there is no statement")
	}
	return s.Stmt.ExecContext(ctx, args...)
}

func (s prepared) QueryContext(ctx context.Context, _ string, args ...any) (*sql.Rows, error) {
	if s.Stmt == nil {
		return nil, errors.New("there is no statement")
	}
	return s.Stmt.QueryContext(ctx, args...)
}

func (p *play) exec(on execer, query string, args ...any) {
	var res sql.Result
	if !p.step("exec "+query, func() (err error) {
		res, err = on.ExecContext(p.ctx, query, args...)
		return err
	}) {
		return
	}
	p.step("last insert ID", func() error { n, err := res.LastInsertId(); p.note("%d", n); return err })
	p.step("rows affected", func() error { n, err := res.RowsAffected(); p.note("%d", n); return err })
}

// query reads all that there is to read.
func (p *play) query(on queryer, query string, args ...any) {
	p.openQuery(on, query, args, func(rows *sql.Rows) {
		for more := true; more; {
			p.step("columns", func() error { return p.noteColumns(rows) })
			for p.step("next", func() error { more = rows.Next(); return nil }); more; {
				p.step("scan", func() error {
					var a, b any
					err := rows.Scan(&a, &b)
					p.note("%T %v, %T %v", a, a, b, b)
					return err
				})
				more = false
				p.step("next", func() error { more = rows.Next(); return nil })
			}
			p.step("next set", func() error { more = rows.NextResultSet(); return nil })
		}
		p.step("err", rows.Err)
	})
}

func (p *play) noteColumns(rows *sql.Rows) error {
	types, err := rows.ColumnTypes()
	for _, c := range types {
		length, hasLength := c.Length()
		nullable, hasNullable := c.Nullable()
		precision, scale, hasScale := c.DecimalSize()
		p.note("%s %s %v %d,%t %t,%t %d,%d,%t", c.Name(), c.DatabaseTypeName(), c.ScanType(),
			length, hasLength, nullable, hasNullable, precision, scale, hasScale)
	}
	return err
}

// open opens rows for f, and closes them.
func (p *play) open(on queryer, f func(*sql.Rows)) { p.openQuery(on, choose, []any{1, 2}, f) }

func (p *play) openQuery(on queryer, query string, args []any, f func(*sql.Rows)) {
	var rows *sql.Rows
	if p.step("query "+query, func() (err error) {
		rows, err = on.QueryContext(p.ctx, query, args...)
		return err
	}) {
		f(rows)
		p.step("close rows", rows.Close)
	}
}

func (p *play) prepare(on preparer, query string) (s prepared) {
	p.step("prepare "+query, func() (err error) {
		s.Stmt, err = on.PrepareContext(p.ctx, query)
		return err
	})
	return s
}

func (p *play) txStmt(tx *sql.Tx, s prepared) (of prepared) {
	if s.Stmt != nil {
		p.step("stmt of tx", func() error { of.Stmt = tx.StmtContext(p.ctx, s.Stmt); return nil })
	}
	return of
}

func (p *play) closeStmt(s prepared) {
	if s.Stmt != nil {
		p.step("close stmt", s.Close)
	}
}

func (p *play) onConn(f func(*sql.Conn)) {
	var c *sql.Conn
	if p.step("conn", func() (err error) { c, err = p.db.Conn(p.ctx); return err }) {
		f(c)
		p.step("close conn", c.Close)
	}
}

func (p *play) begin(on beginner, opts *sql.TxOptions, f func(*sql.Tx)) {
	var tx *sql.Tx
	if p.step("begin", func() (err error) { tx, err = on.BeginTx(p.ctx, opts); return err }) {
		f(tx)
		p.step("rollback", tx.Rollback)
	}
}

func (p *play) inTx(opts *sql.TxOptions, f func(*sql.Tx)) {
	p.begin(p.db, opts, func(tx *sql.Tx) {
		f(tx)
		p.step("commit", tx.Commit)
	})
}

func (p *play) execAll(on execer) {
	for _, args := range argumentLists() {
		p.exec(on, insert, args...)
	}
}

func (p *play) queryAll(on queryer) {
	for _, args := range argumentLists() {
		p.query(on, choose, args...)
	}
}

// argumentLists are arguments for two parameters, or not quite.
func argumentLists() [][]any {
	n, s := 5, "five"
	var null *int
	var valuer *value
	var out int
	return [][]any{
		{},
		{1},
		{1, 2, 3},
		{1, "a"},
		{int8(-1), uint32(1)},
		{uint64(1) << 63, 1},
		{2.5, float32(1.5)},
		{true, false},
		{[]byte("b"), nil},
		{time.Unix(1, 2).UTC(), time.Second},
		{&n, &s},
		{null, nil},
		{value{v: "v"}, &value{v: int64(1)}},
		{value{err: errValue}, 1},
		{1, value{v: struct{}{}}},
		{valuer, 1},
		{sql.NullString{}, sql.NullInt64{Int64: 3, Valid: true}},
		{sql.Named("a", 1), sql.Named("b", "x")},
		{sql.Named("", 1), 2},
		{1, sql.Named("c", struct{}{})},
		{sql.Out{Dest: &out}, 1},
		{fakedriver.Point{X: 1, Y: 2}, 1},
		{fakedriver.Removed{}, 1, 2},
		{1, fakedriver.Removed{}, 2, fakedriver.Removed{}},
		{fakedriver.Removed{}, fakedriver.Removed{}},
		{1, fakedriver.Removed{}},
		{uint8(1), 2},
		{make(chan int), 1},
		{1, []int{1}},
	}
}

// value is a driver.Valuer, of which nil pointers cannot be asked.
type value struct {
	v   any
	err error
}

func (v value) Value() (driver.Value, error) { return v.v, v.err }
