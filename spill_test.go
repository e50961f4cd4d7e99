package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/calmdocs/dblocker/internal/sqlite"
)

// spillColumns are columns of every kind of value that drivers pass, for each
// engine, as the text of a SELECT list; %d is the number of the row.
var spillColumns = map[string]string{
	"sqlite": `%[1]d, %[1]d.5, 'text ' || %[1]d, x'00ff' || char(%[1]d), CAST('blob' || %[1]d AS BLOB), NULL, '', x''`,
	"postgres": `%[1]d::int2, %[1]d::int4, %[1]d::int8, %[1]d.5::float4, %[1]d.5::float8, %[1]d.5::numeric, 'text %[1]d'::text, 'v%[1]d'::varchar(20),
		'c'::char(3), '\x00ff%[1]d0'::bytea, true, DATE '2024-02-29' + %[1]d, TIME '12:34:56', TIMESTAMP '2024-02-29 12:34:56', TIMESTAMPTZ '2024-02-29 12:34:56+01',
		INTERVAL '1 day', '123e4567-e89b-12d3-a456-42661417400%[1]d'::uuid, '{"n": %[1]d}'::json, '{"n": %[1]d}'::jsonb, ARRAY[1,%[1]d], '10.0.0.%[1]d'::inet, NULL::text, ''::text, ''::bytea`,
	"mysql": `CAST(%[1]d AS SIGNED), CAST(%[1]d AS UNSIGNED), %[1]d.5, CAST(%[1]d.5 AS DOUBLE), CAST(%[1]d.5 AS DECIMAL(10,3)), 'text %[1]d', CAST('b%[1]d' AS BINARY(9)), x'00ff0%[1]d',
		DATE('2024-02-2%[1]d'), TIME('12:34:5%[1]d'), TIMESTAMP('2024-02-29 12:34:5%[1]d'), TRUE, JSON_OBJECT('n', %[1]d), NULL, '', b'101'`,
}

const spillRows = 4

func spillQuery(engine string) string {
	var selects []string
	for i := 1; i <= spillRows; i++ {
		selects = append(selects, "SELECT "+fmt.Sprintf(spillColumns[engine], i))
	}
	return strings.Join(selects, " UNION ALL ")
}

// readAll scans rows into RawBytes and any, calling between with the number of the row
// after Next and before Scan.
func readAll(t *testing.T, rows *sql.Rows, between func(row int)) [][]any {
	t.Helper()
	columns, err := rows.Columns()
	must(t, err)
	var table [][]any
	for rows.Next() {
		between(len(table))
		values, raw := make([]any, len(columns)), make([]sql.RawBytes, len(columns))
		pointers, rawPointers := make([]any, len(columns)), make([]any, len(columns))
		for i := range columns {
			pointers[i], rawPointers[i] = &values[i], &raw[i]
		}
		must(t, rows.Scan(pointers...))
		must(t, rows.Scan(rawPointers...))
		for _, b := range raw {
			values = append(values, string(b), b == nil)
		}
		types, err := rows.ColumnTypes()
		must(t, err)
		for _, ct := range types {
			values = append(values, fmt.Sprint(ct.DatabaseTypeName(), ct.ScanType()))
		}
		table = append(table, values)
	}
	must(t, rows.Err())
	must(t, rows.Close())
	return table
}

// TestExecInRowsBesideOtherReaders: an owner writes while it reads, and another reads
// too, so that the owner's rows must be spilled. All their values stay what
// they would have been, those of the current row included.
func TestExecInRowsBesideOtherReaders(t *testing.T) {
	onEngines(t, "", func(t *testing.T, db *sql.DB, c *Connector) {
		if c.engine == sqlite.Engine {
			_, err := db.Exec("PRAGMA journal_mode = WAL") // or the file lets nobody write beside a reader
			must(t, err)
		}
		for _, prepared := range []bool{false, true} {
			bare := queryMaybePrepared(t, context.Background(), db, spillQuery(c.engine.Name), prepared)
			want := readAll(t, bare, func(int) {})
			for at := range spillRows {
				finish := queueUpgrade(t, db, c)
				ctx := asUser(1)
				rows := queryMaybePrepared(t, ctx, db, spillQuery(c.engine.Name), prepared)
				got := readAll(t, rows, func(row int) {
					if row != at {
						return
					}
					begin := finish()
					_, err := db.ExecContext(ctx, "UPDATE counters SET n = n + 1 WHERE id = '1'")
					must(t, err)
					must(t, <-begin)
				})
				if !reflect.DeepEqual(got, want) {
					t.Errorf("an Exec in row %d changed the rows (prepared: %v):\n got %v\nwant %v", at, prepared, got, want)
				}
			}
		}
	})
}

func queryMaybePrepared(t *testing.T, ctx context.Context, db *sql.DB, query string, prepared bool) *sql.Rows {
	t.Helper()
	if !prepared {
		rows, err := db.QueryContext(ctx, query)
		must(t, err)
		return rows
	}
	stmt, err := db.PrepareContext(ctx, query)
	must(t, err)
	t.Cleanup(func() { stmt.Close() })
	rows, err := stmt.QueryContext(ctx)
	must(t, err)
	return rows
}

// heldBy counts the holders of a user's lock.
func heldBy(t testing.TB, c *Connector, user string) int {
	n := 0
	for _, info := range holdsOf(t, c) {
		if info.Key == user && !info.Waiting {
			n++
		}
	}
	return n
}

// queueUpgrade opens rows of user 1. What it returns begins a write inside them, which
// waits for others who read, and closes them then.
func queueUpgrade(t *testing.T, db *sql.DB, c *Connector) (write func() (done chan error)) {
	t.Helper()
	ctx := asUser(1)
	rows, err := db.QueryContext(ctx, "SELECT n FROM counters")
	must(t, err)
	return func() chan error {
		done := make(chan error, 1)
		go func() {
			_, err := db.ExecContext(ctx, "UPDATE counters SET n = n + 1 WHERE id = '1'")
			done <- errors.Join(err, rows.Close())
		}()
		waitFor(t, func() bool { return waitingForUser(t, c, "1") == 1 })
		return done
	}
}

// waitingForUser counts those who wait for a user's lock.
func waitingForUser(t testing.TB, c *Connector, user string) int {
	n := 0
	for _, info := range holdsOf(t, c) {
		if info.Key == user && info.Waiting {
			n++
		}
	}
	return n
}

// TestSpillLimit: two write in rows of theirs, which are too large to make way. The one who
// cannot go on is told why, nothing of the rows is lost, and the other goes on then.
func TestSpillLimit(t *testing.T) {
	onEngines(t, "spill_limit=10", func(t *testing.T, db *sql.DB, c *Connector) {
		if c.engine == sqlite.Engine {
			_, err := db.Exec("PRAGMA journal_mode = WAL") // or the file lets nobody write beside a reader
			must(t, err)
		}
		write := queueUpgrade(t, db, c)
		ctx := asUser(1)
		rows, err := db.QueryContext(ctx, spillQuery(c.engine.Name))
		must(t, err)
		done := write()
		n := 0
		for rows.Next() {
			if n++; n > 1 {
				continue
			}
			_, err := db.ExecContext(ctx, "UPDATE counters SET n = n + 1")
			if !errors.Is(err, ErrSpillLimit) || !strings.Contains(err.Error(), "spill_limit=10") {
				t.Errorf("got %v, want ErrSpillLimit", err)
			}
			if heldBy(t, c, "1") != 2 {
				t.Error("the rows lost their lock although they go on")
			}
		}
		must(t, rows.Err())
		if n != spillRows {
			t.Errorf("%d rows, want %d", n, spillRows)
		}
		must(t, rows.Close())
		must(t, <-done)
	})
}

// TestWriteInRowsWaitsForShortReads: a write in rows of its own that are too large to make way
// waits for the reads of others like anybody.
func TestWriteInRowsWaitsForShortReads(t *testing.T) {
	onEngines(t, "spill_limit=0", func(t *testing.T, db *sql.DB, c *Connector) {
		if c.engine == sqlite.Engine {
			_, err := db.Exec("PRAGMA journal_mode = WAL")
			must(t, err)
		}
		ctx := asUser(1)
		rows, err := db.QueryContext(ctx, spillQuery(c.engine.Name))
		must(t, err)
		for rows.Next() {
			short, err := db.QueryContext(asUser(1), "SELECT n FROM counters")
			must(t, err)
			done := make(chan error, 1)
			go func() {
				_, err := db.ExecContext(ctx, "UPDATE counters SET n = n + 1 WHERE id = '1'")
				done <- err
			}()
			waitFor(t, func() bool { return waitingForUser(t, c, "1") == 1 })
			must(t, short.Close())
			must(t, <-done)
		}
		must(t, errors.Join(rows.Err(), rows.Close()))
		if n := c.spills.Load(); n != 0 {
			t.Errorf("%d rows were spilled", n)
		}
	})
}
