package compat

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// A cutter stands between a program and PostgreSQL. It can end the program's side of all connections without a word to the server, and
// passes no request on to cancel a statement.
type cutter struct {
	net.Listener
	mu      sync.Mutex // guards what follows
	clients []net.Conn
	servers []net.Conn
}

// cancelRequest is how one begins: https://www.postgresql.org/docs/current/protocol-message-formats.html
var cancelRequest = []byte{0, 0, 0, 16, 4, 210, 22, 46}

func newCutter(t *testing.T, to string) *cutter {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	fatal(t, err)
	c := &cutter{Listener: l}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go c.serve(client, to)
		}
	}()
	t.Cleanup(func() {
		l.Close()
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, conn := range append(c.clients, c.servers...) {
			conn.Close()
		}
	})
	return c
}

func (c *cutter) serve(client net.Conn, to string) {
	first := make([]byte, len(cancelRequest))
	if _, err := io.ReadFull(client, first); err != nil || bytes.Equal(first, cancelRequest) {
		client.Close()
		return
	}
	server, err := net.Dial("tcp", to)
	if err != nil {
		client.Close()
		return
	}
	c.mu.Lock()
	c.clients, c.servers = append(c.clients, client), append(c.servers, server)
	c.mu.Unlock()
	go io.Copy(server, io.MultiReader(bytes.NewReader(first), client))
	io.Copy(client, server)
}

// cut has the program read the end of all connections.
func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, client := range c.clients {
		client.(*net.TCPConn).CloseWrite()
	}
	c.clients = nil
}

// TestPgxSendsNothingAgainWhileItMayRun: pgx, too, says of a connection that ends in the middle of a statement without arguments
// that nothing was sent. The server goes on with that, and the next try of database/sql waits for it.
func TestPgxSendsNothingAgainWhileItMayRun(t *testing.T) {
	for _, scope := range []string{"process", "database"} {
		for _, used := range []bool{false, true} {
			t.Run(fmt.Sprintf("lock_scope=%s, used %v", scope, used), func(t *testing.T) {
				d := testdb.Postgres(t).NewDatabase(t)
				bare := open(t, "postgres", d.DSN())
				_, err := bare.Exec("CREATE TABLE counters (n int); INSERT INTO counters VALUES (0)")
				fatal(t, err)
				c := newCutter(t, testdb.Postgres(t).Addr())
				_, port, _ := net.SplitHostPort(c.Addr().String())
				db := open(t, "dblocker", "pgx?cancel_grace=1m&lock_scope="+scope+":"+d.DSN()+" host=127.0.0.1 port="+port)
				ctx := dblocker.WithUser(context.Background(), "u")
				if used {
					fatal(t, db.PingContext(ctx))
				}
				stuck := func() (n int) {
					fatal(t, bare.QueryRow("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory' AND query LIKE 'UPDATE%'").Scan(&n))
					return n
				}
				until := func(is func() bool) {
					for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(time.Millisecond) {
						if time.Now().After(deadline) {
							t.Fatal("still not so after 20s")
						}
					}
				}
				holder, err := bare.Conn(ctx)
				fatal(t, err)
				defer holder.Close()
				_, err = holder.ExecContext(ctx, "SELECT pg_advisory_lock(1)")
				fatal(t, err)
				done := make(chan error, 1)
				go func() {
					_, err := db.ExecContext(ctx, "UPDATE counters SET n = n + 1 WHERE (SELECT pg_advisory_xact_lock(1)) IS NOT NULL")
					done <- err
				}()
				until(func() bool { return stuck() == 1 })
				c.cut()
				until(func() bool {
					st, err := dblocker.Stats(db)
					fatal(t, err)
					return st.Waiting > 0 || stuck() > 1 || len(done) > 0
				})
				if n := stuck(); n != 1 {
					t.Errorf("the statement runs %d times", n)
				}
				_, err = holder.ExecContext(ctx, "SELECT pg_advisory_unlock(1)")
				fatal(t, err)
				fatal(t, <-done)
				var n int
				fatal(t, bare.QueryRow("SELECT n FROM counters").Scan(&n))
				t.Logf("executed %d times, as by the bare driver", n)
			})
		}
	}
}
