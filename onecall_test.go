package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/calmdocs/dblocker/internal/fakedriver"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// TestOneCallAtATime: a connection of the inner driver is in one call at a time, whatever the program does about the time at which a lock that
// rests there is given up, and while sections, contexts and the timer of the shelf end. The fake driver ends the process if it is not so: each of
// its calls takes a while, as those of a server do. Under the race detector it is seen of each driver, if two calls just do not know of each
// other: see calls in internal/server.
func TestOneCallAtATime(t *testing.T) {
	t.Run("fake", func(t *testing.T) {
		server := fakedriver.NewServer(fakedriver.Full())
		server.Hook = func(int, string) error { time.Sleep(rand.N(200 * time.Microsecond)); return nil }
		c, err := NewConnector(server.Connector(), Dialect("generic"), MaxOpenConns(6), LockTimeout(20*time.Second), Logger(textLogger(io.Discard)))
		must(t, err)
		engine := *c.engine
		engine.Locks = &fakeLocks
		c.engine, c.lockScope = &engine, DatabaseScope
		oneCallAtATime(t, sql.OpenDB(c), "UPDATE t SET v = ?")
	})
	if !testdb.UnderRace() {
		return
	}
	const options = "?lock_scope=database&max_open_conns=6&lock_timeout=20s:"
	for _, d := range []struct{ driver, mark, dsn string }{
		{"postgres", "$1", testdb.Postgres(t).NewDatabase(t).DSN()},
		{"mysql", "?", testdb.MySQL(t).NewDatabase(t).DSN()},
		{"sqlite3", "?", testdb.SQLite(t)},
	} {
		t.Run(d.driver, func(t *testing.T) {
			db, err := sql.Open("dblocker", d.driver+options+d.dsn)
			must(t, err)
			mustExec(t, db, "CREATE TABLE t (v INT)")
			mustExec(t, db, "INSERT INTO t VALUES (1)")
			oneCallAtATime(t, db, "UPDATE t SET v = "+d.mark)
		})
	}
}

func oneCallAtATime(t *testing.T, db *sql.DB, update string) {
	defer db.Close()
	var requests sync.WaitGroup
	for range 4 {
		requests.Go(func() {
			for range 30 {
				if err := restless(WithUser(t.Context(), 1+rand.N(3)), db, update); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	requests.Wait()
}

// restless is a request that has a session, in which it does this and that, now and then for as long as a lock rests.
func restless(ctx context.Context, db *sql.DB, update string) (err error) {
	if rand.N(4) == 0 {
		inSection, unlock, err := Lock(ctx, db)
		defer unlock()
		if err != nil {
			return err
		}
		ctx = inSection
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	var stmts []*sql.Stmt
	for range 6 {
		time.Sleep(rand.N(2 * time.Millisecond))
		switch rand.N(10) {
		case 0:
			err = conn.PingContext(ctx)
		case 1:
			_, err = conn.ExecContext(ctx, "UPDATE t SET v = 1")
		case 2, 3:
			var stmt *sql.Stmt
			if stmt, err = conn.PrepareContext(ctx, update); err == nil {
				stmts = append(stmts, stmt)
				_, err = stmt.ExecContext(ctx, 1)
			}
		case 4, 5:
			if len(stmts) > 0 {
				err = stmts[0].Close()
				stmts = stmts[1:]
			}
		case 6:
			var rows *sql.Rows
			if rows, err = conn.QueryContext(ctx, "SELECT v FROM t"); err == nil {
				rows.Next()
				err = rows.Close()
			}
		case 7:
			var tx *sql.Tx
			if tx, err = conn.BeginTx(ctx, nil); err == nil {
				_, err = tx.ExecContext(ctx, "UPDATE t SET v = 1")
				err = errors.Join(err, tx.Commit())
			}
		case 8:
			err = conn.Raw(func(any) error { return nil })
		case 9:
			Stats(db)
		}
		if err != nil {
			return err
		}
	}
	for _, stmt := range stmts {
		err = errors.Join(err, stmt.Close())
	}
	return err
}
