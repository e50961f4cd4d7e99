package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// TestReachMySQLKilledServer: where the server is killed inside a statement, the caller has an error, nothing is written, least of all twice, and after a restart
// the lock is free.
func TestReachMySQLKilledServer(t *testing.T) {
	server := testdb.PrivateMySQL(t)
	d := server.NewDatabase(t)
	config, err := driver.ParseDSN(d.DSN())
	must(t, err)
	config.Logger = &driver.NopLogger{}
	process := func() *sql.DB {
		connector, err := driver.NewConnector(config)
		must(t, err)
		db, err := OpenDB(connector, LockScope(DatabaseScope))
		must(t, err)
		t.Cleanup(func() { db.Close() })
		return db
	}
	plain, err := sql.Open("mysql", d.DSN())
	must(t, err)
	defer plain.Close()
	const slow = "UPDATE counters SET n = n + 1 WHERE name = ? AND SLEEP(60) = 0"
	do := map[string]func(ctx context.Context, db *sql.DB, user string) error{
		"Exec": func(ctx context.Context, db *sql.DB, user string) error {
			_, err := db.ExecContext(ctx, slow, user)
			return err
		},
		"Tx": func(ctx context.Context, db *sql.DB, user string) error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			defer tx.Rollback()
			if _, err := tx.ExecContext(ctx, "UPDATE counters SET n = n + 1 WHERE name = ?", user); err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, slow, user); err != nil {
				return err
			}
			return tx.Commit()
		},
		"section": func(ctx context.Context, db *sql.DB, user string) error {
			ctx, unlock, err := Lock(ctx, db)
			if err != nil {
				return err
			}
			defer unlock()
			if _, err := db.ExecContext(ctx, slow, user); !errors.Is(err, ErrLockLost) {
				t.Errorf("in a section: got %v, want ErrLockLost", err)
			}
			_, err = db.ExecContext(ctx, "UPDATE counters SET n = n + 1 WHERE name = ?", user)
			return err
		},
	}
	_, err = plain.Exec("CREATE TABLE counters (name VARCHAR(20) PRIMARY KEY, n INT) ENGINE=InnoDB")
	must(t, err)
	db, other := process(), process()
	done := make(chan error)
	for user, work := range do {
		_, err = plain.Exec("INSERT INTO counters VALUES (?, 0)", user)
		must(t, err)
		go func() { done <- work(asReachUser(user), db, user) }()
	}
	for until := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		var n int
		must(t, plain.QueryRow("SELECT count(*) FROM information_schema.processlist WHERE info LIKE 'UPDATE counters%SLEEP%' AND state = 'User sleep'").Scan(&n))
		if n == len(do) {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("%d of %d statements run", n, len(do))
		}
	}
	server.Kill(t)
	for range do {
		if err := <-done; err == nil {
			t.Error("a statement whose server was killed has succeeded")
		}
	}
	server.Start(t)
	for user := range do {
		for _, db := range []*sql.DB{other, db} {
			_, err := db.ExecContext(asReachUser(user), "UPDATE counters SET n = n + 10 WHERE name = ?", user)
			must(t, err)
		}
		var n int
		must(t, plain.QueryRow("SELECT n FROM counters WHERE name = ?", user).Scan(&n))
		if n != 20 {
			t.Errorf("%s: got %d, want 20", user, n)
		}
	}
}

func init() {
	lockWays["spilling"] = txWay(nil, "UPDATE generate SET value = randomblob(4000 + length(?))")
}

// TestReachFileHotJournal: a process is killed in a transaction that has written into the file already. Of those that open it at once next, one rolls that
// back, and the others do not find it busy, although SQLite itself waits for nobody.
func TestReachFileHotJournal(t *testing.T) {
	const params = "&_journal_mode=DELETE&_cache_size=5"
	for range 3 {
		s := newFileScene(t, "", params)
		victim, others := newPeer(t, s.dsn(params)), []*peer{newPeer(t, s.dsn(params)), newPeer(t, s.dsn(params)), newPeer(t, s.dsn(params))}
		must(t, s.db.Close()) // so that nobody has the file open but the victim
		victim.do("spilling", "it", "a")
		journal, err := os.ReadFile(s.path + "-journal")
		must(t, err)
		if len(journal) == 0 || journal[0] == 0 {
			t.Fatal("the journal is not hot, so there is nothing to be tested")
		}
		victim.kill()
		var answers []<-chan string
		for i, p := range others {
			user := []string{"a", "u1", "u2"}[i]
			answers = append(answers, p.begin("within", "1m", "write", user), p.begin("within", "1m", "read", user))
		}
		for i, answer := range answers {
			if text := others[i/2].await(answer); text != "ok" {
				t.Errorf("a call in a process that opens the file: %s", text)
			}
		}
		plain, err := sql.Open("sqlite3", s.path)
		must(t, err)
		var check string
		var rows, large, written int
		must(t, plain.QueryRow("PRAGMA integrity_check").Scan(&check))
		must(t, plain.QueryRow("SELECT count(*), count(*) FILTER (WHERE length(value) > 100) FROM generate").Scan(&rows, &large))
		must(t, plain.QueryRow("SELECT sum(n) FROM counters").Scan(&written))
		must(t, plain.Close())
		if check != "ok" || rows != 100 || large != 0 || written != len(others) {
			t.Errorf("got %s, %d rows of which %d are those of the dead transaction, %d writes; want ok, 100, 0, %d", check, rows, large, written, len(others))
		}
	}
}
