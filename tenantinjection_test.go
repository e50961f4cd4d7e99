package dblocker

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/calmdocs/dblocker/internal/fakedriver"
	"github.com/calmdocs/dblocker/internal/sqlite"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// injectedTenants are the handles with a database for each user that faults are tried on. The pattern has the directory of the attempt at %s.
var injectedTenants = []struct {
	name, dialect, pattern, journal string
	opts                            []Option
}{
	{"sqlite, one open", "sqlite", "%s/{user}.db", "wal", []Option{MaxOpenDatabases(1)}},
	{"sqlite, delete, not kept", "sqlite", "%s/{user}/app.db", "delete", []Option{MaxOpenDatabases(2), DatabaseIdle(0)}},
	{"schemas", "postgres", "host=%s search_path={user}", "", []Option{MaxOpenDatabases(2), MaxOpenConns(4)}},
}

// tenantScripts are what programs do with users' databases, where the driver is at work: they are opened, used, closed for each other's
// place, copied and removed.
var tenantScripts = []struct {
	name string
	file bool // it is for SQLite
	run  func(a *attempt) error
}{
	{"Exec and Query", false, func(a *attempt) error { return errors.Join(a.write(a.work), a.read(a.work, "SELECT v FROM t")) }},
	{"Ping", false, func(a *attempt) error { return a.work.PingContext(a.ctx) }},
	{"Tx", false, func(a *attempt) error { return a.inTx(a.begin, (*sql.Tx).Commit) }},
	{"prepared for all", false, func(a *attempt) error {
		stmt, err := a.work.PrepareContext(context.Background(), "UPDATE t SET v = ?")
		if err != nil {
			return err
		}
		defer stmt.Close()
		for _, user := range []int{1, 2, 1} {
			if _, err := stmt.ExecContext(WithUser(a.ctx, user), 1); err != nil {
				return err
			}
		}
		return nil
	}},
	{"prepared for one", false, func(a *attempt) error { return a.prepare(a.work) }},
	{"Conn", false, func(a *attempt) error {
		return a.onConn(func(conn *sql.Conn) error {
			err := a.write(conn)
			if err == nil {
				err = conn.Raw(func(dc any) error { return dc.(RawConn).Raw(func(any) error { return a.call() }) })
			}
			return errors.Join(err, a.prepare(conn))
		})
	}},
	{"transaction in SQL", false, func(a *attempt) error {
		defer a.work.ExecContext(WithUser(context.Background(), 1), "ROLLBACK") // the fault may be in the first
		defer a.work.ExecContext(WithUser(context.Background(), 1), "ROLLBACK")
		for _, text := range []string{"BEGIN", "UPDATE t SET v = 1", "COMMIT", "BEGIN"} {
			if _, err := a.work.ExecContext(a.ctx, text); err != nil {
				return err
			}
		}
		return nil
	}},
	{"section", false, func(a *attempt) error {
		return a.inSection(func() (context.Context, func(), error) { return Lock(a.ctx, a.work) }, a.all)
	}},
	{"LockUsers", false, func(a *attempt) error {
		return a.inSection(func() (context.Context, func(), error) { return LockUsers(a.ctx, a.work, 1, 2) }, func() error {
			ctx := WithUser(a.ctx, 2)
			_, err := a.work.ExecContext(ctx, "UPDATE t SET v = 1")
			return errors.Join(err, a.leave(ctx, a.work))
		})
	}},
	{"users by turns", false, func(a *attempt) error {
		for _, user := range []int{1, 2, 3, 1, 2} {
			if _, err := a.work.ExecContext(WithUser(a.ctx, user), "UPDATE t SET v = 1"); err != nil {
				return err
			}
		}
		return nil
	}},
	{"strangers", false, func(a *attempt) error {
		var wg sync.WaitGroup
		for user := range 4 {
			wg.Go(func() {
				defer func() { recover() }()
				ctx := WithUser(a.ctx, 1+user%3)
				a.work.ExecContext(ctx, "UPDATE t SET v = 1")
				a.read(a.work, "SELECT v FROM t")
			})
		}
		wg.Wait()
		return nil
	}},
	{"nobody's", true, func(a *attempt) error {
		a.ctx = WithoutUser(a.ctx)
		return errors.Join(a.read(a.work, "SELECT 1"), a.work.PingContext(a.ctx))
	}},
	{"EachUser", true, func(a *attempt) error {
		return EachUser(context.Background(), a.work, func(ctx context.Context) error {
			_, err := a.work.ExecContext(ctx, "UPDATE t SET v = 1")
			return err
		})
	}},
	{"Backup", true, func(a *attempt) error {
		err := Backup(a.ctx, a.work, filepath.Join(filepath.Dir(a.c.tenancy.pathOf("1")), "copy"))
		if err != nil && strings.Contains(err.Error(), "has written its copy elsewhere") {
			return nil // the driver writes none
		}
		return err
	}},
	{"RemoveUser", true, func(a *attempt) error {
		if err := a.write(a.work); err != nil {
			return err
		}
		path := a.c.tenancy.pathOf("1")
		os.WriteFile(path+"-shm", nil, 0o600) // so that it looks whether somebody has it open
		go func() { time.Sleep(time.Millisecond); os.Remove(path + "-shm") }()
		err := RemoveUser(a.ctx, a.work)
		if err != nil && strings.Contains(err.Error(), "another process") {
			return nil
		}
		return err
	}},
}

func (t *tenancy) pathOf(user string) string {
	files, _ := t.files()
	return files.Of(user)
}

// TestEveryFaultOnUsersDatabases is TestEveryFaultEverywhere on handles with a database for each user. Whatever comes of a fault, afterwards no lock,
// no place and no database is in use, and each user has his database again. Whatever was told to begin was told to end.
func TestEveryFaultOnUsersDatabases(t *testing.T) {
	if !isInProcessOfItsOwn(t) {
		return
	}
	for e, engine := range injectedTenants {
		for i, script := range tenantScripts {
			if script.file && engine.dialect != "sqlite" || testdb.UnderRace() && (i+e)%2 == 0 {
				continue
			}
			t.Run(engine.name+"/"+script.name, func(t *testing.T) {
				t.Parallel()
				dirs := t.TempDir()
				run := func(observed bool, fault func(a *attempt) error, at int64) *attempt {
					server := fakedriver.NewServer(fakedriver.Full())
					server.OneTx = true
					server.Values = map[string]string{"PRAGMA journal_mode": engine.journal, "PRAGMA query_only": "0", "PRAGMA page_count": "1",
						"SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname = $1": "1", "SELECT count(*) FROM sqlite_master": "1"}
					dir, err := os.MkdirTemp(dirs, "")
					must(t, err)
					opts := append([]Option{OnOpen(onOpenInjected)}, engine.opts...)
					return runTenantAttempt(t, server, engine.dialect, strings.ReplaceAll(engine.pattern, "%s", dir), opts, script.run, observed, fault, at)
				}
				fine := run(true, nil, 0)
				<-fine.done
				n := fine.calls.Load()
				if left := fine.leftOfTenants(); left != "" {
					t.Fatalf("without a fault: %s", left)
				}
				oneOf := int64(3) // each time others, since all take long
				if testdb.UnderRace() {
					oneOf = 6
				}
				first := rand.Int64N(oneOf)
				var wg sync.WaitGroup
				atOnce := make(chan struct{}, 16)
				for _, fault := range injectedFaults {
					for at := int64(1); at <= n; at++ {
						if at%oneOf != first || !fault.unwinds && rand.IntN(3) > 0 {
							continue
						}
						atOnce <- struct{}{}
						observed := rand.IntN(4) == 0
						wg.Go(func() {
							defer func() { <-atOnce }()
							a := run(observed, fault.inject, at)
							if left := a.leftOfTenants(); left != "" {
								t.Errorf("%s in call %d, %s: %s", fault.name, at, callOf(a, at), left)
							}
						})
					}
				}
				wg.Wait()
			})
		}
	}
	t.Cleanup(func() {
		if left := soon(goroutinesOfOurs); left != "" {
			t.Errorf("goroutines are left: %s", left)
		}
	})
}

// onOpenInjected is what a program does where a database is opened.
func onOpenInjected(ctx context.Context, _ string, db *sql.DB) error {
	_, err := db.ExecContext(ctx, "UPDATE version SET v = 1")
	return err
}

// runTenantAttempt is runAttempt on a handle with the pattern, whose directory has the files of the users 1 to 3.
func runTenantAttempt(t *testing.T, server *fakedriver.Server, dialect, pattern string, opts []Option, script func(*attempt) error, observed bool, fault func(*attempt) error, at int64) *attempt {
	a := &attempt{server: server, done: make(chan struct{})}
	if observed {
		a.seen = new(eventLog)
		opts = append(opts, Observe(a.observe, everyCall...))
	}
	d := &Driver{name: "tenants", inner: fakedriver.ContextDriver{Driver: fakedriver.Driver{Server: server}},
		opts: append(opts, Dialect(dialect), LockTimeout(20*time.Second), Logger(textLogger(io.Discard)))}
	c, err := d.OpenConnector(pattern)
	must(t, err)
	server.Hook = func(int, string) error {
		if n := a.calls.Add(1); n == at && !a.over.Load() {
			return fault(a)
		}
		return nil
	}
	a.c, a.db = c.(*Connector), sql.OpenDB(c)
	a.work = a.db
	if dialect == "sqlite" {
		for _, user := range []string{"1", "2", "3"} {
			must(t, os.MkdirAll(filepath.Dir(a.c.tenancy.pathOf(user)), 0o700))
			must(t, os.WriteFile(a.c.tenancy.pathOf(user), nil, 0o600))
		}
	}
	a.ctx, a.cancel = context.WithCancel(asUser(1))
	go func() {
		defer close(a.done)
		defer func() { recover() }()
		if err := script(a); err != nil && fault == nil {
			t.Errorf("without a fault: %v", err)
		}
	}()
	return a
}

// leftOfTenants is attempt.left of a handle with a database for each user.
func (a *attempt) leftOfTenants() (left string) {
	select {
	case <-a.done:
	case <-time.After(30 * time.Millisecond):
	}
	a.cancel()
	a.over.Store(true)
	if left := soon(a.tenantsInUse); left != "" {
		return left
	}
	if left := a.tryTenantsAgain(); left != "" {
		return left
	}
	closed := make(chan struct{})
	go func() { a.db.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(patience):
		return "Close hangs"
	}
	dir, _, _ := strings.Cut(*a.c.dsn, "/{user}")
	return soon(func() string {
		refs := 0
		for _, d := range databasesOpen() {
			if strings.Contains(d.ID, dir) {
				refs++
			}
		}
		if open := a.server.Open(); refs != 0 || open != 0 || len(a.c.tenancy.claims) != 0 {
			return fmt.Sprintf("after Close there are %d databases, %d connections and the claims %v", refs, open, a.c.tenancy.claims)
		}
		return a.untold()
	})
}

// tenantsInUse returns which locks, places, databases and connections are in use.
func (a *attempt) tenantsInUse() string {
	var used []string
	add := func(what string, n int) {
		if n != 0 {
			used = append(used, fmt.Sprintf("%s: %d", what, n))
		}
	}
	tc := a.c.tenancy
	n := tc.set.Counts()
	if places := len(tc.set.Places()); n.Waiting != 0 || n.Open != n.Unused || places != n.Open || len(tc.set.Waiters()) > 0 {
		used = append(used, fmt.Sprintf("%+v, with %d places and %d waiters", n, places, len(tc.set.Waiters())))
	}
	add("the gathering", len(tc.gather.Snapshot()))
	if tc.slots != nil {
		add("slots", tc.slots.Len())
	}
	conns := 0
	look := func(tn *tenant) {
		st := tn.backend.Servers.Peek()
		conns += st.OpenConnections
		add("connections of "+tn.user, st.InUse)
		add("users' locks", len(tn.backend.Users.Snapshot()))
		add("the lock of all users", len(tn.backend.Users.SnapshotAll()))
		if g := tn.backend.Gate; g != nil {
			g.InUse(add)
		}
	}
	for _, tn := range tc.set.Open() {
		look(tn)
	}
	tc.mu.Lock()
	nobody := tc.nobody
	tc.mu.Unlock()
	if nobody != nil {
		look(nobody)
	}
	anchors := 0 // of nobody's database in memory
	if nobody != nil && a.c.engine == sqlite.Engine {
		anchors = 1
	}
	if open := a.server.Open(); open < conns || open > conns+anchors {
		used = append(used, fmt.Sprintf("connections: %d, of which the pools have %d", open, conns))
	}
	return strings.Join(used, ", ")
}

// tryTenantsAgain does what a next request may.
func (a *attempt) tryTenantsAgain() (left string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	again := make(chan error, 1)
	go func() {
		var errs []error
		for user := range 3 {
			errs = append(errs, second(a.db.ExecContext(WithUser(ctx, 1+user), "UPDATE t SET v = 1")))
		}
		_, unlock, err := LockUsers(ctx, a.db, 1, 2, 3)
		unlock()
		again <- errors.Join(append(errs, err, lockAllOnce(ctx, a.db))...)
	}()
	select {
	case err := <-again:
		if err != nil {
			return err.Error()
		}
		return soon(a.tenantsInUse)
	case <-time.After(2 * patience):
		return "the next request hangs"
	}
}

var _ driver.DriverContext = fakedriver.ContextDriver{}
