package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/mattn/go-sqlite3"

	"github.com/calmdocs/dblocker/internal/seen"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// TestOpenxBindsAsTheEngineDoes: by every name and form, with sqlx's ways to write placeholders, on each engine.
func TestOpenxBindsAsTheEngineDoes(t *testing.T) {
	must(t, Register("openx-sqlite3", &sqlite3.SQLiteDriver{}))
	for name, engine := range map[string]struct {
		driver string
		dsn    func(testing.TB) string
		want   string
	}{
		"SQLite":     {"sqlite3", func(t testing.TB) string { return testdb.SQLite(t) }, "SELECT ?"},
		"PostgreSQL": {"postgres", func(t testing.TB) string { return testdb.Postgres(t).NewDatabase(t).DSN() }, "SELECT $1"},
		"MariaDB":    {"mysql", func(t testing.TB) string { return testdb.MySQL(t).NewDatabase(t).DSN() }, "SELECT ?"},
	} {
		t.Run(name, func(t *testing.T) {
			testdb.NoLeaks(t)
			dsn := engine.dsn(t)
			forms := map[string][2]string{
				"inner name":        {engine.driver, dsn},
				"name form":         {engine.driver + "-dblocker", dsn},
				"dblocker":          {"dblocker", engine.driver + ":" + dsn},
				"dblocker, options": {"dblocker", engine.driver + "?lock_timeout=5s:" + dsn},
			}
			if engine.driver == "sqlite3" {
				forms["registered name"] = [2]string{"openx-sqlite3", dsn}
				forms["registered name inside"] = [2]string{"dblocker", "sqlite3://" + dsn}
			}
			for form, with := range forms {
				db, err := Openx(with[0], with[1], Untagged(ErrorUntagged))
				if err != nil {
					t.Fatalf("%s: %v", form, err)
				}
				if got := db.Rebind("SELECT ?"); got != engine.want {
					t.Errorf("%s: sqlx binds %s, want %s", form, got, engine.want)
				}
				checkOpenx(t, form, db)
				must(t, db.Close())
			}
		})
	}
}

// checkOpenx works as programs with sqlx do, and sees that it is under the user's lock.
func checkOpenx(t *testing.T, form string, db *sqlx.DB) {
	t.Helper()
	ctx := asUser(1)
	type row struct{ N int }
	var err error
	check := func(_ any, e error) {
		if err == nil {
			err = e
		}
	}
	check(db.ExecContext(ctx, "DROP TABLE IF EXISTS openx"))
	check(db.ExecContext(ctx, "CREATE TABLE openx (n INT)"))
	check(db.NamedExecContext(ctx, "INSERT INTO openx (n) VALUES (:n)", []row{{1}, {2}}))
	check(db.NamedExecContext(ctx, "UPDATE openx SET n = n + :n", map[string]any{"n": 1}))
	query, args, e := sqlx.In("SELECT n FROM openx WHERE n IN (?) ORDER BY n", []int{2, 3})
	check(nil, e)
	var got []int
	check(nil, db.SelectContext(ctx, &got, db.Rebind(query), args...))
	stmt, e := db.PrepareNamedContext(ctx, "SELECT COUNT(*) FROM openx WHERE n = :n")
	check(nil, e)
	var n int
	if e == nil {
		check(nil, stmt.GetContext(ctx, &n, row{2}))
		check(nil, stmt.Close())
	}
	if err != nil || len(got) != 2 || n != 1 {
		t.Errorf("%s: the rows are %v, %d of them is 2, %v", form, got, n, err)
	}
	_, unlock, e := Lock(ctx, db)
	must(t, e)
	defer unlock()
	if _, took, e := TryLock(asUser(1), db); e == nil {
		took()
		t.Errorf("%s: the handle has no locks", form)
	}
	if _, e := db.Exec("DROP TABLE openx"); !errors.Is(e, ErrNoUser) {
		t.Errorf("%s: a call without a user, by the option in Go: %v, want ErrNoUser", form, e)
	}
}

// TestOpenxRefuses what New refuses, under its own name, and what is for a Store only.
func TestOpenxRefuses(t *testing.T) {
	for want, open := range map[string]func() (*sqlx.DB, error){
		"dblocker: Openx: the driver name is empty": func() (*sqlx.DB, error) { return Openx("", "app.db") },
		"unknown inner driver":                      func() (*sqlx.DB, error) { return Openx("nosuch", "app.db") },
		"no colon":                                  func() (*sqlx.DB, error) { return Openx("dblocker", "app.db") },
		errNotAStore.Error(): func() (*sqlx.DB, error) {
			return Openx("sqlite3", "app.db", DSNFunc(func(context.Context, string) (string, error) { return "app.db", nil }))
		},
	} {
		if db, err := open(); err == nil || db != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the handle is %v, the error %v; want one with %q", db, err, want)
		}
	}
}

// TestSqlxIsWarnedOf the name "dblocker", which has no placeholders for it: once, and only where they are not question marks.
func TestSqlxIsWarnedOf(t *testing.T) {
	const dsn = "postgres://user@127.0.0.1:1/app" // nobody connects
	for name, c := range map[string]struct {
		open func() (*sql.DB, error)
		want int
	}{
		"sqlx.Open":                 {func() (*sql.DB, error) { db, err := sqlx.Open("dblocker", dsn); return withoutSqlx(db), err }, 1},
		"sqlx.Open of SQLite":       {func() (*sql.DB, error) { db, err := sqlx.Open("dblocker", "sqlite3:x.db"); return withoutSqlx(db), err }, 0},
		"sqlx.Open by another name": {func() (*sql.DB, error) { db, err := sqlx.Open("postgres-dblocker", dsn); return withoutSqlx(db), err }, 0},
		"Openx":                     {func() (*sql.DB, error) { db, err := Openx("dblocker", dsn); return withoutSqlx(db), err }, 0},
		"sql.Open":                  {func() (*sql.DB, error) { return sql.Open("dblocker", dsn) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			toldSqlx = seen.Set{}
			var log syncBuffer
			before := slog.Default()
			defer slog.SetDefault(before)
			slog.SetDefault(textLogger(&log))
			for range 2 {
				db, err := c.open()
				must(t, err)
				must(t, db.Close())
			}
			if got := strings.Count(log.String(), "dblocker.Openx"); got != c.want {
				t.Errorf("the log speaks %d times of Openx, want %d: %s", got, c.want, log.String())
			}
		})
	}
}

// TestStoreBindsWhatAConnectFuncOpened as the engine does, also where sqlx does not know the name.
func TestStoreBindsWhatAConnectFuncOpened(t *testing.T) {
	for dsn, want := range map[string]string{"postgres://user@127.0.0.1:1/app": "SELECT $1", "sqlite3:x.db": "SELECT ?"} {
		store, err := New(t.Context(), "dblocker", dsn, false, ConnectFunc(func(_ context.Context, _, name, dsn string) (*sqlx.DB, error) {
			return sqlx.Open(name, dsn)
		}))
		must(t, err)
		must(t, store.ReadDo(1, t.Context(), "test", func(db *sqlx.DB) error {
			if got := db.Rebind("SELECT ?"); got != want {
				t.Errorf("sqlx binds %s, want %s", got, want)
			}
			return nil
		}))
		must(t, store.Close())
	}
}

func withoutSqlx(db *sqlx.DB) *sql.DB {
	if db == nil {
		return nil
	}
	return db.DB
}
