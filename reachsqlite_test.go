package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// A fileScene is a SQLite file with a counter for each of some users, that this process and others have open.
type fileScene struct {
	*testing.T
	path, options string
	actor
}

// filePatience is how long a call that is to be kept out waits.
const filePatience = 60 * time.Millisecond

// fileDSN is the DSN of a handle whose locks reach to other processes. SQLite itself waits for nobody.
func fileDSN(path, options, params string) string {
	return "sqlite3?lock_scope=database" + options + ":file:" + path + "?_busy_timeout=0" + params
}

func newFileScene(t *testing.T, options, params string) *fileScene {
	t.Helper()
	testdb.NoLeaks(t)
	s := &fileScene{T: t, path: testdb.SQLite(t), options: options}
	db, err := sql.Open("dblocker", s.dsn(params))
	must(t, err)
	t.Cleanup(func() { db.Close() })
	s.actor = actor{db: db, held: make(map[string]func() error)}
	s.exec("CREATE TABLE counters (name TEXT PRIMARY KEY, n INT)")
	s.exec("INSERT INTO counters VALUES ('a', 0), ('b', 0), ('y', 0), ('z', 0)")
	s.exec("INSERT INTO counters WITH RECURSIVE g(v) AS (SELECT 0 UNION ALL SELECT v + 1 FROM g LIMIT 32) SELECT 'u' || v, 0 FROM g")
	s.exec("CREATE TABLE generate (value)")
	s.exec("INSERT INTO generate WITH RECURSIVE g(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM g LIMIT 100) SELECT v FROM g")
	return s
}

func (s *fileScene) dsn(params string) string { return fileDSN(s.path, s.options, params) }

func (s *fileScene) exec(query string, args ...any) {
	s.Helper()
	if _, err := s.db.Exec(query, args...); err != nil {
		s.Fatalf("%s: %v", query, err)
	}
}

func (s *fileScene) counter(user string) (n int) {
	s.Helper()
	must(s.T, s.db.QueryRow("SELECT n FROM counters WHERE name = ?", user).Scan(&n))
	return n
}

// keptOut fails the test unless a call waits until its time is over.
func (s *fileScene) keptOut(verb, user string) {
	s.Helper()
	if strings.HasPrefix(verb, "try") {
		if err := s.do(verb, user); !errors.Is(err, ErrLockTimeout) {
			s.Errorf("%s of user %s: %v, want ErrLockTimeout", verb, user, err)
		}
		return
	}
	if err := s.do("within", filePatience.String(), verb, user); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		s.Errorf("%s of user %s: %v, want it to wait", verb, user, err)
	}
}

// soon waits until something succeeds: a thread may be left of a wait that has ended, for a moment after it could have the lock.
func (s *fileScene) soon(what string, does func() bool) {
	s.Helper()
	for until := time.Now().Add(20 * time.Second); !does(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			s.Fatalf("still in vain after 20s: %s", what)
		}
	}
}

// arrives waits until calls of this process that write for a user have its lock here, or wait for it.
func (s *fileScene) arrives(user string, calls int) {
	s.Helper()
	s.soon(fmt.Sprintf("%d calls of user %s have come", calls, user), func() bool {
		holds, err := Holds(s.db)
		must(s.T, err)
		come := 0
		for _, h := range holds {
			if h.What == "lock" && h.User == user && h.Mode == Exclusive && h.Process == nil {
				come++
			}
		}
		return come >= calls
	})
}

// letIn fails the test unless a call succeeds.
func (s *fileScene) letIn(verb, user string) {
	s.Helper()
	if err := s.do("within", "1m", verb, user); err != nil {
		s.Errorf("%s of user %s: %v", verb, user, err)
	}
}

// journals are parameters for each kind of journal.
var journals = map[string]string{"WAL": "", "DELETE": "&_journal_mode=DELETE"}

// TestReachFileExcludes: what one process has exclusively keeps out all of another that is of the same user, and nothing else; then it is to
// be had.
func TestReachFileExcludes(t *testing.T) {
	for journal, params := range journals {
		t.Run(journal, func(t *testing.T) {
			s := newFileScene(t, "", params)
			p := newPeer(t, s.dsn(params))
			for _, holder := range []string{"section", "users", "all", "tx", "raw", "joined"} {
				t.Run(holder, func(t *testing.T) {
					s := &fileScene{T: t, path: s.path, actor: actor{db: s.db, held: s.held}}
					p.do(holder, "it", "a")
					waits := []string{"section", "users", "all", "try", "rsection", "tryshared", "write", "tx"}
					if holder != "tx" && holder != "joined" && holder != "raw" || journal == "WAL" {
						waits = append(waits, "read")
					}
					for _, verb := range waits {
						s.keptOut(verb, "a")
					}
					if holder == "all" {
						s.keptOut("rsection", "b")
					} else {
						s.letIn("rsection", "b")
						s.letIn("try", "b")
					}
					p.do("end", "it")
					for _, verb := range append(waits, "rtx", "raw") {
						s.letIn(verb, "a")
					}
				})
			}
		})
	}
}

// TestReachFileShares: readers of several processes go on together, and keep out writers of all of them.
func TestReachFileShares(t *testing.T) {
	s := newFileScene(t, "", "")
	p := newPeer(t, s.dsn(""))
	for _, holder := range []string{"rsection", "rtx", "rows"} {
		p.do(holder, "it", "a")
		for _, verb := range []string{"rsection", "tryshared", "read", "rtx"} {
			s.letIn(verb, "a")
		}
		for _, verb := range []string{"section", "all", "try", "write", "tx"} {
			s.keptOut(verb, "a")
		}
		p.do("end", "it")
		s.letIn("try", "a")
	}
}

// countingWays are those that lose nothing under a lock.
var countingWays = []any{"insection", "write", "intx", "inusers", "inall", "untagged:b"}

// TestReachFileLosesNothing: several processes count, in all ways, and nothing is lost; nor is the file busy for anybody.
func TestReachFileLosesNothing(t *testing.T) {
	for journal, params := range journals {
		for _, options := range []string{"", "&durability=group", "&combine=off"} {
			if options == "&durability=group" && journal != "WAL" {
				continue
			}
			t.Run(journal+options, func(t *testing.T) {
				s := newFileScene(t, options+"&lock_timeout=2m", params)
				if lost := s.countByAll(params, 5, 12, countingWays); lost != 0 {
					t.Errorf("%d increments were lost", lost)
				}
			})
		}
	}
}

// countByAll has three processes count, and returns how many increments were lost.
func (s *fileScene) countByAll(params string, workers, times int, ways []any) (lost int) {
	s.Helper()
	var answers []<-chan string
	peers := []*peer{newPeer(s.T, s.dsn(params)), newPeer(s.T, s.dsn(params))}
	for _, p := range peers {
		answers = append(answers, p.begin("count", append([]any{workers, times}, ways...)...))
	}
	var names []string
	for _, way := range ways {
		names = append(names, way.(string))
	}
	if err := s.count(fmt.Sprint(workers), fmt.Sprint(times), names...); err != nil {
		s.Error(err)
	}
	for i, p := range peers {
		if text := p.await(answers[i]); text != "ok" {
			s.Error("another process: ", text)
		}
	}
	return 3*workers*times - s.counter("a") - s.counter("b")
}

// TestReachFileControl: with locks of the process, sections of several processes lose what they count.
func TestReachFileControl(t *testing.T) {
	s := newFileScene(t, "", "")
	s.db.Close()
	dsn := "sqlite3?lock_scope=process:file:" + s.path + "?_busy_timeout=60000"
	db, err := sql.Open("dblocker", dsn)
	must(t, err)
	defer db.Close()
	s.db = db
	p := newPeer(t, dsn)
	for until := time.Now().Add(time.Minute); ; {
		before := s.counter("a")
		answer := p.begin("count", 1, 50, "insection")
		if err := s.count("1", "50", "insection"); err != nil {
			t.Fatal(err)
		}
		if text := p.await(answer); text != "ok" {
			t.Fatal(text)
		}
		if s.counter("a")-before < 100 {
			return
		}
		if time.Now().After(until) {
			t.Fatal("nothing was lost")
		}
	}
}

// TestReachFileKill: what a process has that is killed is free at once.
func TestReachFileKill(t *testing.T) {
	for journal, params := range journals {
		for _, holder := range []string{"section", "all", "tx", "raw"} {
			t.Run(journal+" "+holder, func(t *testing.T) {
				s := newFileScene(t, "", params)
				p := newPeer(t, s.dsn(params))
				p.do(holder, "it", "a")
				s.keptOut("section", "a")
				waits := make(chan error, 1)
				go func() { waits <- s.do("write", "a") }()
				s.arrives("a", 1)
				killed := time.Now()
				p.kill()
				must(t, <-waits)
				if took := time.Since(killed); took > 5*time.Second {
					t.Errorf("the next one has waited for %v after the end of the process", took)
				}
				s.letIn("all", "a")
			})
		}
	}
}

// TestReachFileLeavesNothing: those whose waits have ended leave no trace, in either process.
func TestReachFileLeavesNothing(t *testing.T) {
	s := newFileScene(t, "", "")
	p := newPeer(t, s.dsn(""))
	for range 3 {
		p.do("section", "it", "a")
		for _, verb := range []string{"section", "rsection", "write", "tx", "all", "users"} {
			s.keptOut(verb, "a")
		}
		p.do("end", "it")
		s.soon("TryLock in the other process", func() bool { return p.try("try", "a") == "ok" })
		s.soon("TryLock", func() bool { return s.do("try", "a") == nil })
		must(t, s.do("section", "it", "a"))
		for _, verb := range []string{"section", "rsection", "write", "tx", "all", "users"} {
			if text := p.try("within", filePatience, verb, "a"); !strings.Contains(text, "deadline") && !strings.Contains(text, "canceled") {
				t.Errorf("%s in the other process: %s", verb, text)
			}
		}
		must(t, s.do("end", "it"))
		s.soon("TryLock", func() bool { return s.do("try", "a") == nil })
		s.soon("TryLock in the other process", func() bool { return p.try("try", "a") == "ok" })
	}
}

// TestReachFileClose: who waits for another process is told when the handle is closed.
func TestReachFileClose(t *testing.T) {
	s := newFileScene(t, "", "")
	p := newPeer(t, s.dsn(""))
	p.do("section", "it", "a")
	p.do("tx", "writer", "z")
	ends := make(chan error, 3)
	for _, verb := range []string{"section", "write"} {
		go func() { ends <- s.do(verb, "a") }()
	}
	go func() { ends <- s.do("write", "b") }() // at the gate
	s.arrives("a", 2)
	s.arrives("b", 1)
	must(t, s.db.Close())
	for range cap(ends) {
		if err := <-ends; err == nil || err.Error() != errClosed.Error() {
			t.Errorf("got %v, want %v", err, errClosed)
		}
	}
}

// TestReachFileBegin: to begin a transaction waits for the user's lock in other processes, and not for who writes there.
func TestReachFileBegin(t *testing.T) {
	s := newFileScene(t, "&lock_timeout=2m", "")
	p := newPeer(t, s.dsn(""))
	p.do("tx", "it", "z")
	writes := make(chan error, 1)
	go func() { writes <- s.do("write", "b") }() // at the gate, so that it is busy
	c, _, err := connectorOf(context.Background(), s.db)
	must(t, err)
	s.soon("somebody is at the gate", func() bool { return c.backend.Gate.IsBusy() })
	ctx, cancel := context.WithTimeout(WithUser(context.Background(), "a"), time.Minute)
	defer cancel()
	tx, err := s.db.BeginTx(ctx, nil)
	must(t, err)
	p.keptOut("try", "a")
	p.do("end", "it")
	must(t, <-writes)
	_, err = tx.Exec("UPDATE counters SET n = n + 1 WHERE name = 'a'")
	must(t, err)
	must(t, tx.Commit())
}

// TestReachFileRowsMakeWay: rows that the program merely has open do not keep another process waiting for long, and are all there.
func TestReachFileRowsMakeWay(t *testing.T) {
	for journal, params := range journals {
		t.Run(journal, func(t *testing.T) {
			s := newFileScene(t, "", params)
			p := newPeer(t, s.dsn(params))
			for _, ctx := range []context.Context{WithUser(context.Background(), "a"), context.WithValue(context.Background(), UserKey, "a")} {
				rows, err := s.db.QueryContext(ctx, "SELECT value FROM generate")
				must(t, err)
				defer rows.Close()
				rows.Next()
				p.do("within", "20s", "write", "a")
				n := 1
				for rows.Next() {
					n++
				}
				if err := rows.Err(); err != nil || n != 100 {
					t.Errorf("got %d rows (%v), want 100", n, err)
				}
			}
		})
	}
}

// TestReachFileSlow: a wait for another process that lasts is in the log, and Holds has that process.
func TestReachFileSlow(t *testing.T) {
	var log syncBuffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	defer slog.SetDefault(before)
	s := newFileScene(t, "", "")
	p := newPeer(t, s.dsn(""))
	p.do("section", "it", "a")
	pid := fmt.Sprint(p.cmd.Process.Pid)
	waits := make(chan error, 1)
	go func() { waits <- s.do("write", "a") }()
	s.soon("Holds has the other process", func() bool {
		holds, err := Holds(s.db)
		must(t, err)
		return slices.ContainsFunc(holds, func(h HoldInfo) bool { return h.Process != nil && h.Process.Session == pid && h.User == "a" })
	})
	s.soon("a line in the log", func() bool {
		return strings.Contains(log.String(), "process "+pid) && strings.Contains(log.String(), "has been waiting for 5s")
	})
	p.do("end", "it")
	must(t, <-waits)
}

// TestReachFileEvents: who observes a handle is told of a wait for another process, be it for a user's lock or for the gate, and of its end.
func TestReachFileEvents(t *testing.T) {
	var l eventLog
	s := newFileScene(t, "&lock_timeout=1m", "")
	db := observe(t, connectorIn(t, s.db), &l)
	p := newPeer(t, s.dsn(""))
	for i, tc := range []struct{ has, user, wants, what, shown, held string }{
		{"section", "a", "write", "process", "a", "statement"},
		{"section", "a", "section", "process", "a", "section"},
		{"section", "a", "all", "process", "", "section"},
		{"tx", "b", "write", "gate", "", "statement"},
	} {
		p.do(tc.has, "it", tc.user)
		done := make(chan error, 1)
		ctx := traced("a", "a request")
		go func() {
			end, err := lockWays[tc.wants](ctx, db, "a")
			if err == nil {
				err = end()
			}
			done <- err
		}()
		is := func(e Event) bool {
			return e.What == tc.what && e.Held == tc.held && e.User == tc.shown && spanOf(e.Context) == "a request"
		}
		began := l.await(t, EventWaitBegan, is)
		p.do("end", "it")
		must(t, <-done)
		ended := l.await(t, EventWaitEnded, is)
		if n := len(l.of(EventWaitEnded)); began.Wait != ended.Wait || ended.Outcome != OutcomeGranted || ended.Err != nil || ended.Duration <= 0 || n != 1 {
			t.Errorf("%d: %d ends told, %+v, %+v", i, n, began, ended)
		}
		l.clear()
	}
}

// TestReachFileDeadlock: two processes that wait for each other get out by lock_timeout, and are told how.
func TestReachFileDeadlock(t *testing.T) {
	s := newFileScene(t, "&lock_timeout=300ms", "")
	p := newPeer(t, s.dsn(""))
	p.do("section", "it", "b")
	outer, unlock, err := Lock(WithUser(context.Background(), "a"), s.db)
	must(t, err)
	defer unlock()
	other := p.begin("within", "1m", "write", "a")
	_, unlockB, err := Lock(WithUser(outer, "b"), s.db)
	unlockB()
	var e *LockError
	if !errors.As(err, &e) || e.Err != ErrLockTimeout || e.User != "b" || !strings.Contains(e.Error(), "LockUsers") {
		t.Errorf("got %v, want a LockError of user b that names LockUsers", err)
	}
	if !strings.Contains(fmt.Sprint(err), fmt.Sprintf("process %d", p.cmd.Process.Pid)) {
		t.Errorf("%q does not name the process that is in the way", err)
	}
	if e != nil && (e.Process == nil || e.Process.Session != fmt.Sprint(p.cmd.Process.Pid)) {
		t.Errorf("the error has the process %v", e.Process)
	}
	if st, err := Stats(s.db); err != nil || st.Processes.Waits == 0 || st.Processes.Timeouts == 0 {
		t.Errorf("counted %+v (%v), want a wait with a timeout", st.Processes, err)
	}
	if text := p.await(other); !strings.Contains(text, "LockUsers") {
		t.Errorf("the other process got %q", text)
	}
	p.do("end", "it")
}

// TestReachFileOwner: who has a lock is not kept waiting by it, also while another process waits for it.
func TestReachFileOwner(t *testing.T) {
	for journal, params := range journals {
		t.Run(journal, func(t *testing.T) {
			s := newFileScene(t, "", params)
			p := newPeer(t, s.dsn(params))
			ctx, cancel := context.WithTimeout(WithUser(context.Background(), "a"), time.Minute)
			defer cancel()
			read := func(ctx context.Context) { must(t, s.readWith(ctx)) }
			write := func(ctx context.Context) { must(t, s.writeWith(ctx)) }

			t.Run("rows", func(t *testing.T) {
				rows, err := s.db.QueryContext(ctx, "SELECT value FROM generate")
				must(t, err)
				defer rows.Close()
				rows.Next()
				p.do("read", "a")
				waiting := p.waits("write", "a")
				read(ctx)
				write(ctx)
				read(ctx)
				rows.Close()
				waiting()
			})
			t.Run("rows beside a reader of another process", func(t *testing.T) {
				rows, err := s.db.QueryContext(ctx, "SELECT value FROM generate")
				must(t, err)
				defer rows.Close()
				rows.Next()
				p.do("rsection", "it", "a")
				done := make(chan error, 1)
				go func() { done <- s.writeWith(ctx) }()
				s.arrives("a", 1)
				p.do("end", "it")
				must(t, <-done)
			})
			t.Run("transaction", func(t *testing.T) {
				tx, err := s.db.BeginTx(ctx, nil)
				must(t, err)
				defer tx.Rollback()
				waiting := p.waits("section", "a")
				if journal == "WAL" {
					read(ctx)
				}
				write(ctx)
				_, err = tx.ExecContext(ctx, "UPDATE counters SET n = n + 1 WHERE name = 'a'")
				must(t, err)
				must(t, tx.Commit())
				waiting()
			})
			t.Run("section", func(t *testing.T) {
				in, unlock, err := Lock(ctx, s.db)
				must(t, err)
				defer unlock()
				waiting := p.waits("write", "a")
				read(in)
				write(in)
				read(ctx)
				write(ctx)
				inner, unlockInner, err := LockUsers(in, s.db, "a", "b")
				must(t, err)
				p.keptOut("try", "b")
				write(WithUser(inner, "b"))
				unlockInner()
				p.do("try", "b")
				unlock()
				waiting()
			})
			t.Run("all in a section", func(t *testing.T) {
				in, unlock, err := Lock(ctx, s.db)
				must(t, err)
				defer unlock()
				waiting := p.waits("write", "a")
				all, unlockAll, err := LockAll(in, s.db)
				must(t, err)
				p.keptOut("tryshared", "b")
				write(WithUser(all, "b"))
				write(all)
				write(ctx)
				unlockAll()
				p.do("try", "b")
				p.keptOut("try", "a")
				unlock()
				waiting()
			})
			t.Run("all beside rows", func(t *testing.T) {
				rows, err := s.db.QueryContext(ctx, "SELECT value FROM generate")
				must(t, err)
				defer rows.Close()
				rows.Next()
				_, unlock, err := LockAll(ctx, s.db)
				must(t, err)
				defer unlock()
				p.keptOut("tryshared", "a")
				write(ctx)
			})
		})
	}
}

func (s *fileScene) readWith(ctx context.Context) error {
	var n int
	return s.db.QueryRowContext(ctx, "SELECT n FROM counters WHERE name = 'a'").Scan(&n)
}

func (s *fileScene) writeWith(ctx context.Context) error {
	_, err := s.db.ExecContext(ctx, "UPDATE counters SET n = n + 1 WHERE name = 'a'")
	return err
}

// keptOut fails the test unless a try of the peer is in vain.
func (p *peer) keptOut(verb, user string) {
	p.Helper()
	if text := p.try(verb, user); !strings.Contains(text, "did not wait") {
		p.Errorf("%s of user %s in the other process: %s", verb, user, text)
	}
}

// waits has the peer wait for something, which it is to have when end is called.
func (p *peer) waits(verb, user string) (end func()) {
	p.Helper()
	answer := p.begin("within", "1m", verb, user)
	time.Sleep(filePatience) // in which it is not to be answered
	select {
	case text := <-answer:
		p.Errorf("%s in the other process has not waited: %s", verb, text)
	default:
	}
	return func() {
		p.Helper()
		if text := p.await(answer); text != "ok" {
			p.Errorf("%s in the other process: %s", verb, text)
		}
	}
}

// TestReachFileNeverBusy: two processes with 32 writers each, and readers, for whom the file is never busy, and of whom none
// waits for long.
func TestReachFileNeverBusy(t *testing.T) {
	for journal, params := range journals {
		t.Run(journal, func(t *testing.T) {
			s := newFileScene(t, "&lock_timeout=2m", params)
			p := newPeer(t, s.dsn(params))
			var ways []string
			for i := range 32 {
				ways = append(ways, fmt.Sprintf("%s:u%d", []string{"write", "tx", "write", "read"}[i%4], i))
			}
			answer := p.begin("waits", append([]any{32, 40}, toAny(ways)...)...)
			sample, err := s.waits("32", "40", ways...)
			must(t, err)
			if text := p.await(answer); text != "ok" {
				t.Error("the other process: ", text)
			}
			longest, median := sample.longestAndMedian()
			t.Logf("longest wait %v, median %v", longest, median)
		})
	}
}

func toAny(list []string) (all []any) {
	for _, e := range list {
		all = append(all, e)
	}
	return all
}

// TestReachFileCombining: a statement whose user another process has locked is not combined with others, and holds up nobody.
func TestReachFileCombining(t *testing.T) {
	s := newFileScene(t, "", "")
	p := newPeer(t, s.dsn(""))
	p.do("section", "it", "a")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	kept := make(chan error, 4)
	for range cap(kept) {
		go func() {
			_, err := s.db.ExecContext(WithUser(ctx, "a"), "UPDATE counters SET n = n + 1 WHERE name = ?", "a")
			kept <- err
		}()
	}
	if err := s.count("16", "100", "write:b", "write:y", "write:z", "write:c"); err != nil {
		t.Error(err)
	}
	select {
	case err := <-kept:
		t.Fatalf("a write has passed the lock of another process (%v)", err)
	default:
	}
	c, _, err := connectorOf(ctx, s.db)
	must(t, err)
	if c.backend.Combining.Calls.Load() == 0 {
		t.Error("nothing was combined")
	}
	p.do("end", "it")
	for range cap(kept) {
		must(t, <-kept)
	}
	if n := s.counter("a"); n != cap(kept) {
		t.Errorf("user a was counted to %d, want %d", n, cap(kept))
	}
}

// TestReachFileNames: processes meet by whatever name they have opened the file.
func TestReachFileNames(t *testing.T) {
	const params = "&_journal_mode=DELETE" // the name of a log in WAL mode would be another one
	s := newFileScene(t, "", params)
	for name, path := range otherNames(t, s.path) {
		p := newPeer(t, fileDSN(path, "", params))
		p.do("section", "it", "a")
		s.keptOut("try", "a")
		p.do("end", "it")
		must(t, s.do("try", "a"))
		db, err := sql.Open("dblocker", fileDSN(path, "", params))
		must(t, err)
		must(t, db.Ping())
		must(t, db.Close())
		p.kill()
		t.Log("by a", name)
	}
}

// otherNames returns other names of a file.
func otherNames(t *testing.T, path string) map[string]string {
	link, hard := filepath.Join(t.TempDir(), "link.db"), filepath.Join(filepath.Dir(path), "hard.db")
	must(t, os.Symlink(path, link))
	must(t, os.Link(path, hard))
	wd, err := os.Getwd()
	must(t, err)
	relative, err := filepath.Rel(wd, path)
	must(t, err)
	return map[string]string{"symbolic link": link, "hard link": hard, "relative path": relative}
}
