package lockpage

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mattn/go-sqlite3"

	"github.com/calmdocs/dblocker"
)

// openTenants opens a handle with a file for each user.
func openTenants(t *testing.T, opts ...dblocker.Option) *sql.DB {
	t.Helper()
	name := fmt.Sprintf("lockpage%d", drivers.Add(1))
	must(t, dblocker.Register(name, &sqlite3.SQLiteDriver{}, opts...))
	db, err := sql.Open(name, filepath.Join(t.TempDir(), "{user}.db"))
	must(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

// TestGatesOfUsersAreApart: where each user has a file, who waits at the gate of one waits for nobody at another's.
func TestGatesOfUsersAreApart(t *testing.T) {
	gate := func(request uint64, user string, waiting bool) dblocker.HoldInfo {
		h := dblocker.HoldInfo{What: "gate", Database: nameOf(user), Request: request, Mode: dblocker.Exclusive, Kind: "statement", Waiting: waiting, For: time.Second}
		if !waiting {
			h.For = time.Minute
		}
		return h
	}
	page := &Page{Users: func(id string) string { return "(" + id + ")" }}
	v := page.viewOf(new(dblocker.Statistics), []dblocker.HoldInfo{gate(1, "ann", false), gate(2, "ben", false), gate(3, "ben", true)})
	if got, want := outline(v.graph.roots), "gate of (ben)(?gate of (ben))"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if v.Holds[0].User != "(ann)" || v.gate.held != 2 || v.gate.waiting != 1 {
		t.Errorf("got %+v, and at the gates %+v", v.Holds[0], v.gate)
	}
}

// TestPlacesForDatabasesAreNoGate: who waits for max_open_databases waits for whoever has a place, and is not counted at a gate.
func TestPlacesForDatabasesAreNoGate(t *testing.T) {
	page := new(Page)
	db := openTenants(t, dblocker.MaxOpenDatabases(1))
	page.Add("app", db)
	tx, err := db.BeginTx(dblocker.WithUser(t.Context(), "ann"), nil)
	must(t, err)
	_, err = tx.Exec("CREATE TABLE t (v INTEGER)")
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := db.ExecContext(dblocker.WithUser(ctx, "ben"), "CREATE TABLE t (v INTEGER)")
		done <- err
	}()
	s := newScene(t, db)
	s.until(func() bool { st, err := dblocker.Stats(db); return err == nil && st.Databases.Waiting == 1 })
	page.look()
	v := page.view().Databases[0]
	if v.gate.waiting != 0 {
		t.Errorf("%d are said to wait at the gate", v.gate.waiting)
	}
	if got := outline(v.graph.roots); !strings.Contains(got, "?a place for ben") || !strings.Contains(got, "(") {
		t.Errorf("the picture is %q, in which ben waits for nobody", got)
	}
	if text := get(page, "/").Body.String(); !strings.Contains(text, "waiting for a place") {
		t.Error("the panel has no waits for places")
	}
	must(t, tx.Commit())
	must(t, <-done)
}

// TestHiddenUsersAreCounted: databases of users whose IDs are shown alike are as many as they are, whether or not events are told.
func TestHiddenUsersAreCounted(t *testing.T) {
	page := &Page{Users: HideUsers}
	db := openTenants(t, dblocker.Observe(page.Observe("app")))
	page.Add("app", db)
	page.Add("unobserved", db)
	s := newScene(t, db)
	for i := range 3 {
		_, err := db.ExecContext(dblocker.WithUser(t.Context(), i+1), "CREATE TABLE t (v INTEGER)")
		must(t, err)
	}
	s.until(func() bool {
		d := page.database("app")
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.users.newest) == 3
	})
	text := get(page, "/").Body.String()
	if n := strings.Count(text, "<dt>open</dt><dd>3</dd>"); n != 2 {
		t.Errorf("on %d of 2 handles three databases are open", n)
	}
	page.observe(t, dblocker.Event{Kind: dblocker.EventDatabaseEvicted, User: "1"})
	if got := page.view().Databases[0].UserDatabases.Newest; len(got) != 2 {
		t.Errorf("after one was closed, %v are left", got)
	}
}

func (p *Page) observe(t *testing.T, e dblocker.Event) {
	t.Helper()
	p.database("app").observe(e)
}

// TestStatementCacheIsShown once statements were looked for.
func TestStatementCacheIsShown(t *testing.T) {
	page := new(Page)
	db := openSQLite(t)
	page.Add("app", db)
	if text := get(page, "/").Body.String(); strings.Contains(text, "Statement cache") {
		t.Error("there is a panel before any was")
	}
	for i := range 4 {
		_, err := db.ExecContext(dblocker.WithUser(t.Context(), "ann"), "INSERT INTO t VALUES ('x', ?)", i)
		must(t, err)
	}
	s := newScene(t, db)
	s.until(func() bool {
		text := get(page, "/").Body.String()
		return strings.Contains(text, "Statement cache") && strings.Contains(text, "<dt>found there</dt><dd>2</dd>")
	})
}

// nameOf is the name of a user's database; that of a strange ID is the same for all of them.
func nameOf(user string) string {
	name, err := dblocker.DatabaseName(user)
	if err != nil {
		return "strange"
	}
	return name
}
