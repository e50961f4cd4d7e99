package pgxfold_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/testdb"
	_ "github.com/calmdocs/dblocker/pgxfold"
)

// A scene is a database, and handles on it that are as those of several processes: none knows of another.
type scene struct {
	*testing.T
	dsn   string
	plain *sql.DB
}

func newScene(t *testing.T) *scene {
	testdb.NoLeaks(t)
	s := &scene{T: t, dsn: testdb.Postgres(t).NewDatabase(t).DSN()}
	var err error
	s.plain, err = sql.Open("pgx", s.dsn)
	s.must(err)
	t.Cleanup(func() { s.plain.Close() })
	s.exec("CREATE TABLE counters (id INT PRIMARY KEY, n INT NOT NULL)")
	s.exec("INSERT INTO counters SELECT i, 0 FROM generate_series(1, 20) i")
	return s
}

func (s *scene) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *scene) exec(query string) {
	s.Helper()
	_, err := s.plain.Exec(query)
	s.must(err)
}

// A process is a handle, and how many messages were sent by its connections.
type process struct {
	*sql.DB
	sent atomic.Int64
}

func (s *scene) process(set func(*pgx.ConnConfig), opts ...dblocker.Option) *process {
	s.Helper()
	cfg, err := pgx.ParseConfig(s.dsn)
	s.must(err)
	p := new(process)
	dial := cfg.DialFunc
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		return &countedConn{conn, &p.sent}, err
	}
	if set != nil {
		set(cfg)
	}
	p.DB, err = dblocker.OpenDB(stdlib.GetConnector(*cfg), append([]dblocker.Option{dblocker.LockScope(dblocker.DatabaseScope)}, opts...)...)
	s.must(err)
	s.Cleanup(func() { p.Close() })
	return p
}

type countedConn struct {
	net.Conn
	sent *atomic.Int64
}

func (c *countedConn) Write(b []byte) (int, error) {
	c.sent.Add(1)
	return c.Conn.Write(b)
}

func user(id any) context.Context { return dblocker.WithUser(context.Background(), id) }

func increment(ctx context.Context, db *sql.DB) error {
	res, err := db.ExecContext(ctx, "UPDATE counters SET n = n + 1 WHERE id = $1", 1)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); n != 1 || err != nil {
		return fmt.Errorf("%d rows: %w", n, err)
	}
	if _, err := res.LastInsertId(); err == nil {
		return errors.New("LastInsertId has no error")
	}
	return nil
}

func read(ctx context.Context, db *sql.DB) (n int, err error) {
	return n, db.QueryRowContext(ctx, "SELECT n FROM counters WHERE id = $1", 1).Scan(&n)
}

// TestOneMessage: each statement is one message, though each is of another user, whose lock is taken and that of the one before given up.
func TestOneMessage(t *testing.T) {
	s := newScene(t)
	p := s.process(nil, dblocker.MaxOpenConns(1))
	for name, do := range map[string]func(ctx context.Context) error{
		"Exec":  func(ctx context.Context) error { return increment(ctx, p.DB) },
		"Query": func(ctx context.Context) error { _, err := read(ctx, p.DB); return err },
	} {
		least := int64(1000)
		for range 20 { // in some of which a lock that rests is given up by itself
			const calls = 10
			before := p.sent.Load()
			for i := range calls {
				s.must(do(user(i + 1)))
			}
			least = min(least, p.sent.Load()-before-calls)
		}
		if least > 0 {
			t.Errorf("%s: never less than %d messages more than calls", name, least)
		}
	}
}

// TestNothingIsLost, among processes, at the level at which statements are folded and at those at which they are not; and nothing fails.
func TestNothingIsLost(t *testing.T) {
	s := newScene(t)
	want := 0
	for _, level := range []string{"read committed", "repeatable read", "serializable"} {
		level := func(cfg *pgx.ConnConfig) { cfg.RuntimeParams["default_transaction_isolation"] = level }
		var all sync.WaitGroup
		const workers, rounds = 2, 30
		for range 3 {
			p := s.process(level)
			for range workers {
				all.Go(func() {
					for range rounds {
						if err := increment(user("u"), p.DB); err != nil {
							t.Errorf("Exec: %v", err)
						}
						if _, err := read(user("u"), p.DB); err != nil {
							t.Errorf("Query: %v", err)
						}
						var n int
						if err := p.QueryRowContext(user("u"), "UPDATE counters SET n = n + $1 WHERE id = 1 RETURNING n", 1).Scan(&n); err != nil {
							t.Errorf("a query that writes: %v", err)
						}
					}
				})
			}
		}
		all.Wait()
		want += 3 * workers * rounds * 2
	}
	if n, err := read(context.Background(), s.plain); n != want || err != nil {
		t.Errorf("the counter is at %d (%v), want %d", n, err, want)
	}
}

// TestWaitsForOthers: what another process has under its lock the statement comes after, and lock_timeout ends the wait.
func TestWaitsForOthers(t *testing.T) {
	s := newScene(t)
	a, b := s.process(nil), s.process(nil, dblocker.LockTimeout(50*time.Millisecond))
	for range 3 { // so that it would be folded
		s.must(increment(user("u"), b.DB))
		s.must(increment(user("v"), b.DB))
	}
	time.Sleep(1100 * time.Millisecond) // contendedTime
	inside, unlock, err := dblocker.Lock(user("u"), a.DB)
	s.must(err)
	for range 2 {
		if err := increment(user("u"), b.DB); !errors.Is(err, dblocker.ErrLockTimeout) {
			t.Errorf("beside a section of another process: got %v, want ErrLockTimeout", err)
		}
		if _, err := read(user("u"), b.DB); !errors.Is(err, dblocker.ErrLockTimeout) {
			t.Errorf("beside a section of another process: got %v, want ErrLockTimeout", err)
		}
	}
	s.must(increment(user("v"), b.DB))
	s.must(increment(inside, a.DB))
	unlock()
	s.must(increment(user("u"), b.DB))
}

// TestSameAsStdlib: values, types and errors are those of stdlib.
func TestSameAsStdlib(t *testing.T) {
	s := newScene(t)
	s.exec("CREATE TYPE mood AS ENUM ('sad', 'ok')")
	p := s.process(nil, dblocker.MaxOpenConns(1))
	for _, c := range []struct {
		query string
		args  []any
	}{
		{"SELECT $1::int2, $2::int4, $3::int8, $4::float4, $5::float8, $6::bool", []any{1, 2, 3, 1.5, 2.5, true}},
		{"SELECT $1::text, $2::varchar(10), $3::bytea, $4::numeric(10,2), $5::uuid", []any{"a", "b", []byte{0, 1}, "12.30", "5b0c9d4e-1f5a-4bc5-8f9b-0a3c3b1e2d11"}},
		{"SELECT $1::timestamptz, $2::timestamp, $3::date, $4::interval, $5::time", []any{time.Unix(0, 0), time.Unix(1, 0).UTC(), "2024-01-02", "1 day 2 hours", "01:02:03"}},
		{"SELECT $1::json, $2::jsonb, $3::int[], $4::text[], $5::mood", []any{`{"a": 1}`, `{"b": [1]}`, []int32{1, 2}, []string{"x", "y"}, "ok"}},
		{"SELECT $1::int, NULL::text, NULL::bytea, NULL::timestamptz", []any{nil}},
		{"SELECT i, i::text FROM generate_series(1, $1::int) i", []any{1000}},
		{"SELECT n FROM counters WHERE id = $1", []any{-1}},
		{"INSERT INTO counters VALUES ($1, 7) ON CONFLICT (id) DO UPDATE SET n = 7 RETURNING id, n", []any{500}},
		{"UPDATE counters SET n = n WHERE id < $1", []any{5}},
		{"INSERT INTO counters VALUES ($1, 1)", []any{1}},                   // a duplicate
		{"SELECT 1 / (i - 3) FROM generate_series(1, $1::int) i", []any{5}}, // fails after rows
		{"SELECT 1 / $1::int", []any{0}},
		{"SELECT n FROM nowhere WHERE id = $1", []any{1}},
		{"SELECT $1::int", []any{"no number"}},
		{"SELECT $1::int", []any{1, 2}},
		{"SELECT $1::int", []any{struct{}{}}},
		{"SELECT @id::int", []any{pgx.NamedArgs{"id": 3}}},
		{"SELECT pg_typeof($1)::text", []any{3}},
		{"SELECT cidr($1), inet '1.2.3.4', point(1,2), oid(4)", []any{"10.0.0.0/8"}},
	} {
		for round := range 4 {
			ctx := user(round + 1)
			compare(t, c.query+": rows", rowsOf(s.plain, ctx, c.query, c.args), rowsOf(p.DB, ctx, c.query, c.args))
			compare(t, c.query+": result", resultOf(s.plain, ctx, c.query, c.args), resultOf(p.DB, user(round+2), c.query, c.args))
		}
	}
}

func compare(t *testing.T, what string, bare, folded []any) {
	t.Helper()
	if !reflect.DeepEqual(bare, folded) {
		t.Errorf("%s:\nstdlib: %v\n folded: %v", what, bare, folded)
	}
}

// rowsOf tells all that a query shows.
func rowsOf(db *sql.DB, ctx context.Context, query string, args []any) (all []any) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return shown(err)
	}
	defer rows.Close()
	types, err := rows.ColumnTypes()
	all = append(all, err)
	for _, ct := range types {
		length, hasLength := ct.Length()
		precision, scale, hasScale := ct.DecimalSize()
		nullable, tells := ct.Nullable()
		all = append(all, fmt.Sprint(ct.Name(), ct.DatabaseTypeName(), ct.ScanType(), length, hasLength, precision, scale, hasScale, nullable, tells))
	}
	values, targets := make([]any, len(types)), make([]any, len(types))
	for i := range values {
		targets[i] = &values[i]
	}
	for rows.Next() {
		all = append(all, rows.Scan(targets...))
		for _, v := range values {
			all = append(all, fmt.Sprintf("%T %v", v, v))
		}
	}
	return append(all, shown(rows.Err())...)
}

func resultOf(db *sql.DB, ctx context.Context, query string, args []any) []any {
	res, err := db.ExecContext(ctx, query, args...)
	if err != nil {
		return shown(err)
	}
	n, err := res.RowsAffected()
	return append([]any{n}, shown(err)...)
}

// shown is an error as the program sees it, but for where the server has found it.
func shown(err error) []any {
	if err == nil {
		return nil
	}
	all := []any{err.Error(), fmt.Sprintf("%T", err)}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		all = append(all, pg.Code, pg.Message, pg.Detail, pg.Hint, pg.ConstraintName, pg.TableName, pg.Position)
	}
	return all
}

// forgetOurs has the server forget what was prepared here, and keep what pgx has prepared, which would fail on stdlib too.
const forgetOurs = `DO $$ DECLARE r record; BEGIN
	FOR r IN SELECT name FROM pg_prepared_statements WHERE name LIKE 'dblocker%' LOOP EXECUTE 'DEALLOCATE ' || r.name; END LOOP;
END $$`

// TestForgottenStatements: what the server has forgotten, or would answer with other columns, is prepared anew, and done once.
func TestForgottenStatements(t *testing.T) {
	s := newScene(t)
	p := s.process(nil, dblocker.MaxOpenConns(1))
	for i, change := range []string{forgetOurs, "ALTER TABLE counters ADD COLUMN more INT DEFAULT 5", "ALTER TABLE counters ALTER COLUMN n TYPE BIGINT", "DISCARD PLANS"} {
		for j := range 4 {
			s.must(increment(user(j+1), p.DB))
			rows, err := p.QueryContext(user(j+1), "SELECT * FROM counters WHERE id = $1", 1)
			if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) && pg.Code == "0A000" { // which stdlib has too, once
				continue
			}
			s.must(err)
			rows.Close()
			s.must(rows.Err())
		}
		if strings.HasPrefix(change, "ALTER") {
			s.exec(change)
		} else if _, err := p.Exec(change); err != nil {
			t.Fatal(err)
		}
		var n int
		if err := s.plain.QueryRow("SELECT n FROM counters WHERE id = 1", pgx.QueryExecModeSimpleProtocol).Scan(&n); n != 4*(i+1) || err != nil {
			t.Errorf("before %s: the counter is at %d (%v), want %d", change, n, err, 4*(i+1))
		}
	}
	s.must(increment(user("u"), p.DB))
}

// TestCancelled: a statement that its context ends is not run again, and its lock is free when the server has ended it.
func TestCancelled(t *testing.T) {
	s := newScene(t)
	p, other := s.process(nil), s.process(nil)
	const slow = "UPDATE counters SET n = n + 1 WHERE id = $1 AND pg_sleep($2) IS NOT NULL"
	for i := range 3 {
		_, err := p.ExecContext(user(i+1), slow, 2, 0)
		s.must(err)
	}
	for i := range 3 {
		ctx, cancel := context.WithTimeout(user(fmt.Sprint("other", i)), 100*time.Millisecond)
		if _, err := p.ExecContext(ctx, slow, 2, 60); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want that the deadline is exceeded", err)
		}
		cancel()
		ctx, cancel = context.WithTimeout(user(fmt.Sprint("other", i)), 20*time.Second)
		s.must(increment(ctx, other.DB))
		s.must(increment(ctx, p.DB))
		cancel()
	}
	var n int
	s.must(s.plain.QueryRow("SELECT n FROM counters WHERE id = 2").Scan(&n))
	if n != 3 {
		t.Errorf("the counter is at %d, want 3", n)
	}
}

// TestOpenRows: rows that are open have the lock until they are closed, and are read as they come; beside them their owner goes on.
func TestOpenRows(t *testing.T) {
	s := newScene(t)
	p, other := s.process(nil), s.process(nil, dblocker.LockTimeout(50*time.Millisecond))
	const many = "SELECT i FROM generate_series(1, $1::int) i"
	for i := range 3 {
		rows, err := p.QueryContext(user(i+1), many, 1)
		s.must(err)
		s.must(rows.Close())
	}
	ctx := user("u")
	rows, err := p.QueryContext(ctx, many, 20000)
	s.must(err)
	if !rows.Next() {
		t.Fatal(rows.Err())
	}
	if err := increment(user("u"), other.DB); !errors.Is(err, dblocker.ErrLockTimeout) {
		t.Errorf("beside open rows of another process: got %v, want ErrLockTimeout", err)
	}
	if _, err := read(user("u"), other.DB); err != nil {
		t.Errorf("a reader beside them: %v", err)
	}
	s.must(increment(ctx, p.DB))
	left := 0
	for rows.Next() {
		left++
	}
	if s.must(rows.Err()); left != 19999 {
		t.Errorf("%d rows are left after the first, want 19999", left)
	}
	s.must(rows.Close())
	deadline, cancel := context.WithTimeout(user("u"), 10*time.Second)
	defer cancel()
	for increment(deadline, other.DB) != nil && deadline.Err() == nil {
	}
	s.must(deadline.Err())
}
