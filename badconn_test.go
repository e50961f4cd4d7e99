package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/calmdocs/dblocker/internal/postgres"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// A balancer stands between the program and the server, and can end the client's side of all
// connections without a word to the server, as one does whose patience has ended.
type balancer struct {
	net.Listener
	mu      sync.Mutex
	clients []net.Conn
	servers []net.Conn
	left    []net.Conn  // of clients that were cut
	refuses atomic.Bool // new clients
}

func newBalancer(t *testing.T, to string) *balancer {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	b := &balancer{Listener: l}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil || b.refuses.Load() {
				client.Close()
				continue
			}
			b.mu.Lock()
			b.clients, b.servers = append(b.clients, client), append(b.servers, server)
			b.mu.Unlock()
			go io.Copy(server, client)
			go io.Copy(client, server)
		}
	}()
	t.Cleanup(func() {
		l.Close()
		b.cut()
		b.cutServers()
	})
	return b
}

// cut ends the clients' side: they read the end of what the server says.
func (b *balancer) cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.clients {
		c.(*net.TCPConn).CloseWrite()
	}
	b.left, b.clients, b.servers = append(b.left, b.servers...), nil, nil
}

// cutServers ends the server's side of what was cut.
func (b *balancer) cutServers() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.left {
		c.Close()
	}
	b.left = nil
}

// A cutScene is a handle through a balancer, and a view of its database past both.
type cutScene struct {
	*testing.T
	*balancer
	db, bare *sql.DB
	c        *Connector
}

// stuck is a write that goes on for as long as another session has the advisory lock.
const stuck = "UPDATE counters SET n = n + 1 WHERE (SELECT pg_advisory_xact_lock(1)) IS NOT NULL AND id = $1"

func newCutScene(t *testing.T, options string) *cutScene {
	d := testdb.Postgres(t).NewDatabase(t)
	s := &cutScene{T: t, balancer: newBalancer(t, testdb.Postgres(t).Addr())}
	_, port, _ := net.SplitHostPort(s.balancer.Addr().String())
	c, err := (&Driver{}).OpenConnector("postgres?" + options + ":" + d.DSN() + " host=127.0.0.1 port=" + port)
	must(t, err)
	s.c, s.db = c.(*Connector), sql.OpenDB(c)
	t.Cleanup(func() { s.db.Close() })
	s.bare, err = sql.Open("postgres", d.URL())
	must(t, err)
	t.Cleanup(func() { s.bare.Close() })
	for _, text := range []string{"CREATE TABLE counters (id int PRIMARY KEY, n int)", "INSERT INTO counters VALUES (1, 0)"} {
		_, err := s.bare.Exec(text)
		must(t, err)
	}
	return s
}

func (s *cutScene) count(query string) (n int) {
	s.Helper()
	must(s.T, s.bare.QueryRow(query).Scan(&n))
	return n
}

func (s *cutScene) stuckSessions() int {
	return s.count("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'")
}

// holdBack keeps what is stuck from going on until letGo is called.
func (s *cutScene) holdBack() (letGo func()) {
	ctx := context.Background()
	conn, err := s.bare.Conn(ctx)
	must(s.T, err)
	_, err = conn.ExecContext(ctx, "SELECT pg_advisory_lock(1)")
	must(s.T, err)
	return sync.OnceFunc(func() {
		_, err := conn.ExecContext(ctx, "SELECT pg_advisory_unlock(1)")
		must(s.T, errors.Join(err, conn.Close()))
	})
}

// cutWays are those in which a write may run while its connection ends. Through a handle
// database/sql sends it again.
var cutWays = []struct {
	name   string
	again  bool
	warmUp bool // the connection has been in the pool
	run    func(db *sql.DB) error
}{
	{"Exec", true, false, func(db *sql.DB) error {
		_, err := db.ExecContext(asUser(1), stuck, 1)
		return err
	}},
	{"Exec on a used connection", true, true, func(db *sql.DB) error {
		_, err := db.ExecContext(asUser(1), stuck, 1)
		return err
	}},
	{"Query", true, true, func(db *sql.DB) error {
		rows, err := db.QueryContext(asUser(1), stuck+" RETURNING n", 1)
		return closeRows(rows, err)
	}},
	{"section", true, true, func(db *sql.DB) error {
		return Do(asUser(1), db, func(ctx context.Context) error {
			_, err := db.ExecContext(ctx, stuck, 1)
			return err
		})
	}},
	{"sql.Conn", false, true, func(db *sql.DB) error {
		conn, err := db.Conn(asUser(1))
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.ExecContext(asUser(1), stuck, 1)
		return err
	}},
	{"Tx", false, true, func(db *sql.DB) error {
		tx, err := db.BeginTx(asUser(1), nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		_, err = tx.Exec(stuck, 1)
		return err
	}},
}

// TestNothingIsSentAgainWhileItMayRun: lib/pq says of a connection that ends in the middle of a
// statement that nothing was sent. The server goes on with the statement, under the user's lock,
// and database/sql's next try waits for that.
func TestNothingIsSentAgainWhileItMayRun(t *testing.T) {
	for _, way := range cutWays {
		t.Run(way.name, func(t *testing.T) {
			s := newCutScene(t, "cancel_grace=1m")
			if way.warmUp {
				must(t, s.db.Ping())
			}
			letGo := s.holdBack()
			defer letGo()
			done := make(chan error, 1)
			go func() { done <- way.run(s.db) }()
			waitFor(t, func() bool { return s.stuckSessions() == 1 })
			s.cut()
			waitFor(t, func() bool { return way.again && len(s.waiting()) > 0 || s.stuckSessions() > 1 || len(done) > 0 })
			if n := s.stuckSessions(); n != 1 {
				t.Errorf("the statement runs %d times", n)
			}
			if _, unlock, err := TryLock(asUser(1), s.db); err == nil {
				unlock()
				t.Error("the server is still at it, and the user's lock is free")
			}
			letGo()
			waitFor(t, func() bool { return s.stuckSessions() == 0 })
			s.cutServers()
			if err := <-done; way.again != (err == nil) { // then, as on the bare driver, it is done twice
				t.Errorf("the call ended with %v", err)
			}
			_, unlock, err := Lock(asUser(1), s.db)
			must(t, err)
			unlock()
		})
	}
}

// waiting are those who wait for a user's lock, or in a section for what its lock covers.
func (s *cutScene) waiting() (all []string) {
	for _, i := range holdsOf(s.T, s.c) {
		if i.Waiting {
			all = append(all, i.Key)
		}
	}
	if _, barred := lostOf(s.T, s.c); barred {
		all = append(all, "behind the section's own")
	}
	return all
}

// TestLostBehindNobody: with nobody to ask whether the session goes on, its lock is kept, and the
// program is told at once that there is no connection to be had.
func TestLostBehindNobody(t *testing.T) {
	for _, peeks := range []bool{true, false} {
		for _, way := range cutWays {
			t.Run(fmt.Sprintf("%s, peeks %v", way.name, peeks), func(t *testing.T) {
				s := newCutScene(t, "cancel_grace=1m&lock_timeout=1m")
				s.warmUp(1, peeks)
				letGo := s.holdBack()
				defer letGo()
				done := make(chan error, 1)
				go func() { done <- way.run(s.db) }()
				waitFor(t, func() bool { return s.stuckSessions() == 1 })
				s.refuses.Store(true)
				s.cut()
				waitFor(t, func() bool { return way.again && len(s.waiting()) > 0 || len(done) > 0 })
				if _, unlock, err := TryLock(asUser(1), s.db); err == nil {
					unlock()
					t.Error("the server is still at it, and the user's lock is free")
				}
				letGo()
				waitFor(t, func() bool { return s.stuckSessions() == 0 })
				s.refuses.Store(false)
				s.cutServers()
				<-done
				_, unlock, err := Lock(asUser(1), s.db)
				must(t, err)
				unlock()
			})
		}
	}
}

// warmUp leaves n used connections in the pool.
func (s *cutScene) warmUp(n int, peeks bool) {
	s.Helper()
	var conns []*sql.Conn
	for range n {
		conn, err := s.db.Conn(context.Background())
		must(s.T, err)
		must(s.T, conn.PingContext(context.Background()))
		conns = append(conns, conn)
	}
	for _, out := range conns {
		onDrawn(s.T, out, func(sc *server.Conn) {
			if !peeks {
				sc.Peek = nil // as behind TLS, which may hide the end
			}
		})
		must(s.T, out.Close())
	}
}

// TestStaleConnectionsAreReplaced: the end of idle connections is not noticed, however many there are, whether it
// shows on the socket or has to be asked for.
func TestStaleConnectionsAreReplaced(t *testing.T) {
	for _, peeks := range []bool{true, false} {
		t.Run(fmt.Sprintf("peeks %v", peeks), func(t *testing.T) {
			s := newCutScene(t, "lock_timeout=20s&cancel_grace=1m")
			s.warmUp(8, peeks)
			s.cut()
			s.cutServers()
			waitFor(t, func() bool {
				return s.count("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()") == 0
			})
			_, err := s.db.ExecContext(asUser(1), "UPDATE counters SET n = n + 1 WHERE id = $1", 1)
			must(t, err)
			if n := s.count("SELECT n FROM counters"); n != 1 {
				t.Errorf("the statement was executed %d times", n)
			}
			if left, _ := lostOf(t, s.c); left != 0 {
				t.Errorf("%d sessions are taken for lost", left)
			}
		})
	}
}

// TestSocketOfLibPQ fails when lib/pq no longer has the field that is read by reflection.
func TestSocketOfLibPQ(t *testing.T) {
	s := newCutScene(t, "")
	ctx := context.Background()
	ci, err := s.c.inner.Connect(ctx)
	must(t, err)
	defer ci.Close()
	sc := serverConnOn(s.T, s.c, ci)
	sc.Peer, err = postgres.Engine.Identify(ctx, sc)
	must(t, err)
	if !sc.MayHaveSent || sc.Peek == nil {
		t.Fatalf("mayHaveSent %v, with peek %v; want both", sc.MayHaveSent, sc.Peek != nil)
	}
	if ended, known := sc.Peek(); ended || !known {
		t.Errorf("an idle connection: ended %v, known %v", ended, known)
	}
	if n := testing.AllocsPerRun(100, func() { sc.Peek() }); n != 0 {
		t.Errorf("a look allocates %v times", n)
	}
	_, err = s.bare.Exec("SELECT pg_terminate_backend($1::int)", strings.TrimSpace(sc.Session.ID))
	must(t, err)
	waitFor(t, func() bool { ended, known := sc.Peek(); return ended && known })
}
