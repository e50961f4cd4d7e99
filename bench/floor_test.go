package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/mattn/go-sqlite3"
)

// BenchmarkFloor is what no library behind database/sql can save: database/sql itself, for 64 goroutines whose driver answers at
// once, and SQLite's own work for the loads of the suite "load", by one goroutine on a bare connection with prepared
// statements, which waits for nobody. Of both, time/op is of all processors: an update takes at least the sum of
// database-sql/exec, over the processors, and sqlite/update-in-batch, which is always one at a time. database-sql/combining is
// both together, by the least that can be between them.
//
//	go test -run '^$' -bench Floor .
func BenchmarkFloor(b *testing.B) {
	b.Run("database-sql/exec", func(b *testing.B) {
		floorOfSQL(b, instantly{}, updateFloor)
	})
	b.Run("database-sql/query", func(b *testing.B) {
		floorOfSQL(b, instantly{}, func(ctx context.Context, db *sql.DB) error {
			var id, n int
			return db.QueryRowContext(ctx, "SELECT id, n FROM counters WHERE id = ?", 1).Scan(&id, &n)
		})
	})
	b.Run("sqlite/query", func(b *testing.B) {
		conn := openFloor(b)
		for b.Loop() {
			conn.query()
		}
	})
	b.Run("sqlite/update", func(b *testing.B) {
		conn := openFloor(b)
		for b.Loop() {
			conn.exec(conn.update)
		}
	})
	b.Run("sqlite/update-in-batch", func(b *testing.B) {
		conn := openFloor(b)
		for n := 0; b.Loop(); n++ {
			if n%64 == 0 {
				conn.exec(conn.begin)
			}
			conn.exec(conn.update)
			if n%64 == 63 {
				conn.exec(conn.commit)
			}
		}
	})
	b.Run("database-sql/combining", func(b *testing.B) {
		floorOfSQL(b, &onlyCombines{floorConn: openFloor(b)}, updateFloor)
	})
	b.Run("sqlite/rmw", func(b *testing.B) {
		conn := openFloor(b)
		for b.Loop() {
			conn.exec(conn.begin)
			conn.query()
			conn.exec(conn.update)
			conn.exec(conn.commit)
		}
	})
}

func updateFloor(ctx context.Context, db *sql.DB) error {
	return checkUpdate(db.ExecContext(ctx, "UPDATE counters SET n = n + 1 WHERE id = ?", 1))
}

// floorOfSQL has 64 goroutines for two processors.
func floorOfSQL(b *testing.B, c driver.Connector, do func(context.Context, *sql.DB) error) {
	db := sql.OpenDB(c)
	defer db.Close()
	idle(db)
	b.SetParallelism(32) // times the processors
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := do(b.Context(), db); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// A floorConn is a bare connection with what the loads send.
type floorConn struct {
	b                              *testing.B
	begin, commit, update, select1 driver.Stmt
}

func openFloor(b *testing.B) *floorConn {
	dir, err := os.MkdirTemp(memory().dir, "dblocker-bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "floor.db")
	conn, err := (&sqlite3.SQLiteDriver{}).Open("file:" + path + tuned)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	c := &floorConn{b: b}
	for _, statement := range schema() {
		c.exec(c.prepare(conn, statement))
	}
	c.begin, c.commit = c.prepare(conn, "BEGIN IMMEDIATE"), c.prepare(conn, "COMMIT")
	c.update = c.prepare(conn, "UPDATE counters SET n = n + 1 WHERE id = 1")
	c.select1 = c.prepare(conn, "SELECT id, n FROM counters WHERE id = 1")
	return c
}

func (c *floorConn) prepare(conn driver.Conn, statement string) driver.Stmt {
	stmt, err := conn.Prepare(statement)
	if err != nil {
		c.b.Fatal(err)
	}
	return stmt
}

func (c *floorConn) exec(stmt driver.Stmt) {
	if _, err := stmt.(driver.StmtExecContext).ExecContext(context.Background(), nil); err != nil {
		c.b.Fatal(err)
	}
}

func (c *floorConn) query() {
	rows, err := c.select1.(driver.StmtQueryContext).QueryContext(context.Background(), nil)
	if err != nil {
		c.b.Fatal(err)
	}
	defer rows.Close()
	for row := make([]driver.Value, 2); err == nil; err = rows.Next(row) {
	}
	if err != io.EOF {
		c.b.Fatal(err)
	}
}

// instantly is a driver whose server needs no time.
type instantly struct{}

func (instantly) Connect(context.Context) (driver.Conn, error) { return instantly{}, nil }
func (instantly) Driver() driver.Driver                        { return nil }
func (instantly) Prepare(string) (driver.Stmt, error)          { return nil, driver.ErrSkip }
func (instantly) Begin() (driver.Tx, error)                    { return nil, driver.ErrSkip }
func (instantly) Close() error                                 { return nil }
func (instantly) ExecContext(context.Context, string, []driver.NamedValue) (driver.Result, error) {
	return driver.RowsAffected(1), nil
}
func (instantly) QueryContext(context.Context, string, []driver.NamedValue) (driver.Rows, error) {
	return &oneRow{}, nil
}

type oneRow struct{ read bool }

func (*oneRow) Columns() []string { return []string{"id", "n"} }
func (*oneRow) Close() error      { return nil }
func (r *oneRow) Next(row []driver.Value) error {
	if r.read {
		return io.EOF
	}
	r.read = true
	row[0], row[1] = int64(1), int64(1)
	return nil
}
