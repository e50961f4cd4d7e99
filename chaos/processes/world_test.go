//go:build unix

package processes

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/testdb"
)

var (
	duration = flag.Duration("chaos.duration", 5*time.Second, "how long the chaos lasts on each engine")
	seedFlag = flag.Uint64("chaos.seed", 0, "of all random choices; 0: a new one")
)

func newSeed(t *testing.T) uint64 {
	s := *seedFlag
	if s == 0 {
		s = rand.Uint64N(1e9) + 1
	}
	t.Logf("to repeat: -chaos.seed=%d", s)
	return s
}

// A world is a database, and what the test itself does with it.
type world struct {
	t        testing.TB
	engine   *engine
	server   *testdb.PrivateServer // nil on SQLite
	database *testdb.Database      // nil there
	file     string                // there
	bare     *sql.DB               // past dblocker
	sum      sum
	counts   map[string]int // calls, by the reason of their error
	faults   map[string]int
}

func newWorld(t testing.TB, e *engine) *world {
	w := &world{t: t, engine: e, counts: make(map[string]int), faults: make(map[string]int)}
	if e.server != nil {
		w.server = e.server.get(t)
		w.database = w.server.NewDatabase(t)
	} else {
		w.file = e.file(t)
	}
	var err error
	if w.bare, err = sql.Open(e.drivers[0], w.dsn(e.drivers[0], nil)); err != nil {
		t.Fatal(err)
	}
	w.bare.SetMaxIdleConns(0) // each time another, since the server comes and goes
	t.Cleanup(func() { w.bare.Close() })
	for _, statement := range e.schema() {
		if _, err := w.bare.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// dsn is that of the database for a driver, through a proxy if there is one.
func (w *world) dsn(driver string, through *proxy) string {
	if w.database == nil {
		return w.file
	}
	d := w.database
	if through != nil {
		s := *d.Server
		s.Port = through.port()
		d = &testdb.Database{Server: &s, Name: d.Name}
	}
	if driver == "pgx" {
		return d.URL()
	}
	return d.DSN()
}

// round lets a crew work for a while, with faults if there are to be any, and returns what was wrong.
func (w *world) round(seed uint64, d time.Duration, faults faults, role string, options ...string) (violations []string) {
	begin := w.audit("first")
	c := w.newCrew(seed, role, options...)
	c.disturb(rand.New(rand.NewPCG(seed, 1)), d, faults)
	violations = c.finish()
	if left := w.awaitSessions(); left != "" {
		violations = append(violations, left)
	}
	h := c.history()
	h.add(begin)
	h.add(w.audit("last"))
	found, s := h.judge(w.takeJournal())
	w.sum.add(s)
	for kind, n := range h.counts {
		w.counts[kind] += n
	}
	return append(violations, found...)
}

// audit reads the registers with nobody at work.
func (w *world) audit(id string) (events []event) {
	for user := range users {
		op := fmt.Sprintf("%s%03d", id, user)
		events = append(events, event{Kind: eventBegin, At: now(), Op: op, User: user, What: "audit"})
		var is state
		if err := w.bare.QueryRow(readQuery+fmt.Sprint(user)).Scan(&is.N, &is.Last); err != nil {
			w.t.Fatal(err)
		}
		events = append(events, event{Kind: eventSaw, At: now(), Op: op, Saw: is}, event{Kind: eventEnd, At: now(), Op: op, Result: failed})
	}
	return events
}

// takeJournal returns the IDs of the writes that have taken effect in the round, and clears it.
func (w *world) takeJournal() (ids []string) {
	ids, err := column[string](w.bare, "SELECT id FROM journal")
	if err == nil {
		_, err = w.bare.Exec("DELETE FROM journal")
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return ids
}

// lookAtLocks finds no lock left, with processes that live and do nothing: neither by what the server says, nor by taking each.
func (w *world) lookAtLocks() (left []string) {
	if w.engine.locks != nil {
		left = w.untilNone(func() (string, error) {
			n, err := w.engine.locks(w.bare, w.databaseName())
			if n == 0 {
				return "", err
			}
			return fmt.Sprintf("%d locks are left at the server", n), err
		})
	}
	driver := w.engine.drivers[0]
	db, err := sql.Open("dblocker", driver+"?lock_scope=database:"+w.dsn(driver, nil))
	if err != nil {
		w.t.Fatal(err)
	}
	defer db.Close()
	return append(left, w.untilNone(func() (string, error) { return takeEach(db) })...)
}

// untilNone waits until look finds nothing: a server may not have seen yet that a connection is gone.
func (w *world) untilNone(look func() (left string, err error)) []string {
	for deadline := time.Now().Add(settle); ; time.Sleep(10 * time.Millisecond) {
		left, err := look()
		if err != nil {
			w.t.Fatal(err)
		}
		if left == "" {
			return nil
		}
		if time.Now().After(deadline) {
			return []string{"with nobody at work: " + left}
		}
	}
}

// takeEach takes the lock of each user, and that of all, without to wait for any.
func takeEach(db *sql.DB) (left string, err error) {
	for user := range users {
		_, unlock, err := dblocker.TryLock(dblocker.WithUser(context.Background(), tag(user)), db)
		unlock()
		if err != nil {
			return err.Error(), nil
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, unlock, err := dblocker.LockAll(ctx, db)
	unlock()
	if err != nil {
		return err.Error(), nil
	}
	return "", nil
}

func (w *world) databaseName() string {
	if w.database == nil {
		return w.file
	}
	return w.database.Name
}

// awaitSessions waits until the server has ended all sessions: then nothing can come late.
func (w *world) awaitSessions() (left string) {
	if w.server == nil {
		return ""
	}
	for deadline := time.Now().Add(settle); ; time.Sleep(10 * time.Millisecond) {
		ids, err := column[int64](w.bare, w.engine.sessions)
		if err != nil {
			w.t.Fatal(err)
		}
		if len(ids) == 0 {
			return ""
		}
		if time.Now().After(deadline) {
			return fmt.Sprintf("%d sessions are left of processes that have ended", len(ids))
		}
	}
}

// report says how much has been tried.
func (w *world) report() {
	w.t.Logf("checked: %v", w.sum)
	w.t.Logf("calls: %v; faults: %v", w.counts, w.faults)
}

// column is the result of a query with one column.
func column[T any](db *sql.DB, query string) (values []T, err error) {
	rows, err := db.Query(query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var v T
		if err := rows.Scan(&v); err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	return values, rows.Err()
}

// find returns the first violation that has a text in it.
func find(violations []string, text string) string {
	for _, v := range violations {
		if strings.Contains(v, text) {
			return v
		}
	}
	return ""
}
