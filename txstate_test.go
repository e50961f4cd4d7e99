package dblocker

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"strings"
	"testing"

	"github.com/calmdocs/dblocker/internal/postgres"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// A stray is work that leaves its connection in a transaction, or so that the next statement begins
// one, although no statement is just a BEGIN. It ends with its connection in the pool.
type stray struct {
	name string
	run  func(ctx context.Context, db *sql.DB) error
	ends bool // database/sql ends the transaction, of which it does not know
}

func strayExec(text string) stray {
	return stray{name: text, run: func(ctx context.Context, db *sql.DB) error {
		_, err := db.ExecContext(ctx, text)
		return err
	}}
}

func strayQuery(text string) stray {
	return stray{name: "Query of " + text, run: func(ctx context.Context, db *sql.DB) error {
		rows, err := db.QueryContext(ctx, text)
		return closeRows(rows, err)
	}}
}

func strayStmt(text string) stray {
	return stray{name: "prepared " + text, run: func(ctx context.Context, db *sql.DB) error {
		s, err := db.PrepareContext(ctx, text)
		if err != nil {
			return err
		}
		defer s.Close()
		_, err = s.ExecContext(ctx)
		return err
	}}
}

// strayTx has it done in a sql.Tx.
func strayTx(text string) stray {
	return stray{ends: !strings.HasPrefix(text, "SET"), name: text + " in a Tx", run: func(ctx context.Context, db *sql.DB) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, text); err != nil {
			tx.Rollback()
			return err
		}
		tx.Commit() // fails if the driver knows better
		return nil
	}}
}

// strayRaw has it done by way of the inner driver.
func strayRaw(text string) stray {
	return stray{name: text + " by Raw", run: func(ctx context.Context, db *sql.DB) error {
		conn, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		return conn.Raw(func(dc any) error {
			return dc.(RawConn).Raw(func(inner any) error {
				_, err := inner.(driver.ExecerContext).ExecContext(ctx, text, nil)
				return err
			})
		})
	}}
}

// strayPinned has it done in a section whose connection is pinned.
func strayPinned(in stray) stray {
	return stray{name: in.name + " in a pinned section", run: func(ctx context.Context, db *sql.DB) error {
		ctx, unlock, err := Lock(ctx, db, Pin())
		if err != nil {
			return err
		}
		defer unlock()
		return in.run(ctx, db)
	}}
}

var strays = map[string][]stray{
	"sqlite": {strayExec("BEGIN; UPDATE counters SET n = n + 1"), strayRaw("BEGIN"), strayTx("COMMIT; BEGIN")},
	"postgres": {
		strayExec("BEGIN; UPDATE counters SET n = n + 1"), strayExec("BEGIN; SELECT 1/0"), strayExec("SET a.b = 'c'; BEGIN"), strayQuery("BEGIN; SELECT 1"),
		strayStmt("BEGIN"), strayTx("COMMIT; BEGIN"), strayTx("COMMIT AND CHAIN"), strayRaw("BEGIN"),
	},
	"mysql": {
		strayExec("BEGIN; UPDATE counters SET n = n + 1"), strayExec("BEGIN; nonsense"), strayExec("CALL begins()"), strayExec("SET autocommit = 0"),
		strayExec("SET @@autocommit = 0"), strayQuery("BEGIN; SELECT 1"), strayStmt("CALL begins()"), strayExec("XA START 'x'"), strayExec("LOCK TABLES counters WRITE"),
		strayTx("SET autocommit = 0"), strayTx("COMMIT; BEGIN"), strayTx("CALL begins()"), strayRaw("BEGIN"), strayRaw("SET autocommit = 0"),
		strayPinned(strayTx("SET autocommit = 0")),
	},
}

// inNone is a statement that fails, or is not true, on a session in a transaction.
var inNone = map[string]func(ctx context.Context, conn *sql.Conn) error{
	"sqlite": func(ctx context.Context, conn *sql.Conn) error {
		_, err := conn.ExecContext(ctx, "BEGIN")
		if err == nil {
			_, err = conn.ExecContext(ctx, "COMMIT")
		}
		return err
	},
	"postgres": func(ctx context.Context, conn *sql.Conn) error {
		if _, err := conn.ExecContext(ctx, "SAVEPOINT a"); postgres.SQLState(err) != "25P01" { // no_active_sql_transaction
			return fmt.Errorf("SAVEPOINT: %v", err)
		}
		return nil
	},
	"mysql": func(ctx context.Context, conn *sql.Conn) error {
		var in, auto int
		err := conn.QueryRowContext(ctx, "SELECT @@in_transaction, @@autocommit").Scan(&in, &auto)
		if err == nil && (in != 0 || auto != 1) {
			return fmt.Errorf("in_transaction %d, autocommit %d", in, auto)
		}
		if err == nil {
			_, err = conn.ExecContext(ctx, "DO (SELECT count(*) FROM other)") // unless tables are locked
		}
		return err
	},
}

// TestNoConnectionGoesBackInATransaction: a session that is in a transaction is its client
// connection's, and a warning says so, or it is closed. None is left where anybody may draw it.
func TestNoConnectionGoesBackInATransaction(t *testing.T) {
	for _, e := range testedEngines {
		driver, dsn := e.dsn(t)
		if driver == "mysql" {
			dsn += "&multiStatements=true"
			if !strings.Contains(dsn, "?") {
				dsn = strings.Replace(dsn, "&", "?", 1)
			}
		}
		for i, stray := range strays[e.name] {
			t.Run(e.name+"/"+stray.name, func(t *testing.T) {
				testdb.NoLeaks(t)
				var log syncBuffer
				c, err := (&Driver{}).OpenConnector(driver + "?lock_timeout=0:" + dsn)
				must(t, err)
				c.(*Connector).logger = textLogger(&log)
				db := sql.OpenDB(c)
				defer db.Close()
				if i == 0 {
					prepareStrays(t, db, e.name)
				}
				if err := stray.run(asUser(1), db); err != nil && !strings.Contains(stray.name, "nonsense") && !strings.Contains(stray.name, "1/0") {
					t.Fatal(err)
				}
				waitFor(t, func() bool { return statsOf(t, c).InUse <= 1 }) // that of a section goes back with it
				checkIdle(t, c, inNone[e.name])
				if warned := strings.Contains(log.String(), "went back to the pool"); warned == stray.ends {
					t.Errorf("warned: %v; the log: %s", warned, log.String())
				}
			})
		}
	}
}

func prepareStrays(t *testing.T, db *sql.DB, engine string) {
	t.Helper()
	texts := []string{"CREATE TABLE counters (n BIGINT)", "CREATE TABLE other (n BIGINT)"}
	if engine == "mysql" {
		texts = append(texts, "CREATE PROCEDURE begins() BEGIN START TRANSACTION; INSERT INTO counters VALUES (1); END")
	}
	for _, text := range texts {
		_, err := db.Exec(text)
		must(t, err)
	}
}

// checkIdle looks at each connection of the inner pool.
func checkIdle(t *testing.T, handle any, inNone func(context.Context, *sql.Conn) error) {
	t.Helper()
	ctx, idle := context.Background(), statsOf(t, handle).Idle
	for range idle {
		conn := drawFrom(t, handle)
		defer conn.Close()
		if err := inNone(ctx, conn); err != nil {
			t.Errorf("an idle connection, which anybody may draw, is in a transaction: %v", err)
		}
	}
}

// TestDoubtfulConnectionsAreClosed: of a driver that tells nothing, a connection that may be in a
// transaction is not used again.
func TestDoubtfulConnectionsAreClosed(t *testing.T) {
	for _, tc := range []struct {
		dialect string
		stray   stray
		closed  bool
	}{
		{"postgres", strayExec("BEGIN; UPDATE t SET v = 1"), true},
		{"postgres", strayTx("COMMIT; BEGIN"), true},
		{"postgres", strayExec("UPDATE t SET v = 1"), false},
		{"mysql", strayExec("CALL p()"), true},
		{"mysql", strayExec("SET autocommit = 0"), true},
		{"mysql", strayExec("XA START 'x'"), true},
		{"mysql", strayTx("CALL p()"), true},
		{"mysql", strayExec("SET a = 1"), false},
		{"mysql", strayTx("UPDATE t SET v = 1"), false},
		{"generic", strayExec("BEGIN; UPDATE t SET v = 1"), true},
		{"generic", strayExec("SET autocommit = 0"), true},
		{"generic", strayRaw("BEGIN"), false},   // Raw is common, and nearly always harmless
		{"generic", strayExec("EXEC p"), false}, // of SQL Server, perhaps, which has no other way to call a procedure
	} {
		t.Run(tc.dialect+"/"+tc.stray.name, func(t *testing.T) {
			var log syncBuffer
			s := &stub{}
			db := openStub(t, s, Dialect(tc.dialect), Logger(textLogger(&log)))
			must(t, tc.stray.run(asUser(1), db))
			if closed := s.connections() == 0; closed != tc.closed {
				t.Errorf("closed: %v, want %v", closed, tc.closed)
			}
			if warned := strings.Contains(log.String(), "went back to the pool"); warned != tc.closed {
				t.Errorf("warned: %v, want %v", warned, tc.closed)
			}
			holds, err := Holds(db)
			must(t, err)
			if len(holds) > 0 {
				t.Errorf("locks left: %v", holds)
			}
		})
	}
}

// wrappedConn is as instrumented drivers have it.
type wrappedConn struct {
	name string
	driver.Conn
}

// TestDriversTellOfTransactions fails when a driver no longer has the field that is read by
// reflection.
func TestDriversTellOfTransactions(t *testing.T) {
	for _, e := range testedEngines {
		if e.name == "sqlite" {
			continue
		}
		for _, wrap := range []func(driver.Conn) driver.Conn{
			func(ci driver.Conn) driver.Conn { return ci },
			func(ci driver.Conn) driver.Conn { return &wrappedConn{"outer", wrappedConn{"inner", ci}} },
		} {
			t.Run(e.name, func(t *testing.T) {
				name, dsn := e.dsn(t)
				c, err := (&Driver{}).OpenConnector(name + ":" + dsn)
				must(t, err)
				ci, err := c.(*Connector).inner.Connect(context.Background())
				must(t, err)
				defer ci.Close()
				sc := serverConnOn(t, c, wrap(ci))
				if !sc.KnowsTx() {
					t.Fatal("the driver's connection has no status that is known")
				}
				for _, step := range []struct {
					text string
					in   bool
				}{{"SELECT 1", false}, {"BEGIN", true}, {"SELECT 1", true}, {"COMMIT", false}} {
					if sc.IsInTx() && step.text == "SELECT 1" && !step.in {
						t.Error("a new connection is in a transaction")
					}
					_, err := serverConnOn(t, c, ci).ExecContext(context.Background(), step.text, nil)
					must(t, err)
					if in := sc.IsInTx(); in != step.in {
						t.Errorf("after %q: in a transaction %v, want %v", step.text, in, step.in)
					}
				}
			})
		}
	}
}

// TestLostConnectionLeavesNoTransaction on the servers: a connection that is lost in a transaction is in none. The log says nothing of one, and no lock is left,
// whether database/sql knows of the transaction or not.
func TestLostConnectionLeavesNoTransaction(t *testing.T) {
	onEngines(t, "lock_timeout=1m", func(t *testing.T, db *sql.DB, c *Connector) {
		own, kill := "SELECT pg_backend_pid()", "SELECT pg_terminate_backend(%d)"
		switch c.engine.Name {
		case "mysql":
			own, kill = "SELECT CONNECTION_ID()", "KILL CONNECTION %d"
		case "sqlite":
			t.Skip("no server can end it")
		}
		var log syncBuffer
		c.logger = textLogger(&log)
		ctx := asUser(1)
		type sender interface {
			QueryRowContext(context.Context, string, ...any) *sql.Row
			ExecContext(context.Context, string, ...any) (sql.Result, error)
		}
		lose := func(on sender) {
			t.Helper()
			var id int
			must(t, on.QueryRowContext(ctx, own).Scan(&id))
			_, err := on.ExecContext(ctx, "UPDATE counters SET n = n + 1 WHERE id = '1'")
			must(t, err)
			killer, err := db.Conn(context.Background())
			must(t, err)
			defer killer.Close()
			must(t, killer.Raw(func(any) error { return nil }))
			_, err = killer.ExecContext(WithoutUser(context.Background()), fmt.Sprintf(kill, id))
			must(t, err)
			waitFor(t, func() bool {
				_, err := on.ExecContext(ctx, "UPDATE counters SET n = n + 1 WHERE id = '1'")
				return err != nil
			})
		}
		tx, err := db.BeginTx(ctx, nil)
		must(t, err)
		lose(tx)
		tx.Rollback()
		conn, err := db.Conn(ctx)
		must(t, err)
		_, err = conn.ExecContext(ctx, "BEGIN")
		must(t, err)
		lose(conn)
		conn.Close() // which database/sql may have done
		waitFor(t, func() bool { return len(holdsOf(t, c)) == 0 })
		if strings.Contains(log.String(), "inside a transaction") {
			t.Errorf("the log says of a lost connection:\n%s", log.String())
		}
	})
}
