package testdb

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// A Database is one test's own database.
type Database struct {
	Server *Server
	Name   string
}

// URL is the form that names the engine first: postgres://user:pw@host:port/name?sslmode=disable, for lib/pq and pgx, or
// mysql://user:pw@host:port/name.
func (d *Database) URL() string {
	return d.Server.Engine.url(d.Server, d.Name)
}

// DSN is the driver's own form: keywords and values for lib/pq and pgx, user:pw@tcp(host:port)/name for go-sql-driver/mysql.
func (d *Database) DSN() string {
	return d.Server.Engine.dsn(d.Server, d.Name)
}

// Sessions lists what the server sees of connections to the database: an id and the activity of each.
func (d *Database) Sessions(t testing.TB) []Session {
	t.Helper()
	sessions, err := d.sessions()
	if err != nil {
		t.Fatalf("%s: list sessions: %v", d.Server, err)
	}
	return sessions
}

// KillSessions ends all connections to the database from the server's side, and returns when they have ended, which is a
// moment after the server was told to.
func (d *Database) KillSessions(t testing.TB) {
	t.Helper()
	killed := d.Sessions(t)
	for _, s := range killed {
		// A session that has gone by itself meanwhile is an error for MariaDB, and as good as killed for us.
		_ = d.Server.exec(fmt.Sprintf(d.Server.Engine.kill, s.ID))
	}
	for deadline := time.Now().Add(settle); slices.ContainsFunc(d.Sessions(t), oneOf(killed)); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("%s: sessions of %s go on %v after they were killed", d.Server, d.Name, settle)
			return
		}
	}
}

// oneOf tells whether a session is among some, whatever it does now.
func oneOf(some []Session) func(Session) bool {
	return func(s Session) bool {
		return slices.ContainsFunc(some, func(o Session) bool { return o.ID == s.ID })
	}
}

// A Session is the server's side of one connection.
type Session struct {
	ID       int64
	Activity string // such as "idle: SELECT 1"
}

func (d *Database) sessions() ([]Session, error) {
	db, err := d.Server.Engine.open(d.Server)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	rows, err := db.Query(fmt.Sprintf(d.Server.Engine.sessions, d.Name))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var sessions []Session
	for rows.Next() {
		var s Session
		if err := rows.Scan(&s.ID, &s.Activity); err != nil {
			return nil, err
		}
		sessions = append(sessions, s)
	}
	return sessions, rows.Err()
}

// drop ends the database's life. A server that the test has left stopped has no connections, and its databases go with it.
func (d *Database) drop(t testing.TB) {
	t.Helper()
	if !d.Server.running() {
		return
	}
	if left := d.left(t); len(left) > 0 {
		t.Errorf("%s: the test left %d connections open to %s:%s", d.Server, len(left), d.Name, describe(left))
		d.KillSessions(t)
	}
	if err := d.Server.exec(fmt.Sprintf(d.Server.Engine.drop, d.Name)); err != nil {
		t.Errorf("%s: drop database: %v", d.Server, err)
	}
}

// left returns the sessions that stay. A server notices a closed connection only a moment after the client has closed it.
func (d *Database) left(t testing.TB) []Session {
	t.Helper()
	deadline := time.Now().Add(settle)
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		sessions := d.Sessions(t)
		if len(sessions) == 0 || time.Now().After(deadline) {
			return sessions
		}
		time.Sleep(pause)
	}
}

func describe(sessions []Session) string {
	var b strings.Builder
	for _, s := range sessions {
		fmt.Fprintf(&b, "\n\t%d %s", s.ID, s.Activity)
	}
	return b.String()
}
