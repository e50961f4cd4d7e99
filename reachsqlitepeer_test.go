package dblocker

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A peer is another process with the same database. It is told, in lines, what to do: a number, a verb and its arguments, of which each is
// answered by a line with that number, when it is done.
type peer struct {
	*testing.T
	cmd *osexec.Cmd
	in  io.WriteCloser

	mu      sync.Mutex // guards what follows
	last    int
	answers map[int]chan string
	gone    chan struct{} // closed with the process
}

// peerDSN is in the environment of a peer.
const peerDSN = "DBLOCKER_TEST_PEER_DSN"

func newPeer(t *testing.T, dsn string) *peer {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	p := &peer{T: t, cmd: osexec.Command(self, "-test.run=^TestReachFilePeer$", "-test.timeout=10m"), answers: make(map[int]chan string), gone: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), peerDSN+"="+dsn)
	p.cmd.Stderr = os.Stderr
	p.in, err = p.cmd.StdinPipe()
	must(t, err)
	out, err := p.cmd.StdoutPipe()
	must(t, err)
	must(t, p.cmd.Start())
	go p.listen(out)
	t.Cleanup(p.kill)
	return p
}

func (p *peer) listen(out io.Reader) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		number, text, _ := strings.Cut(lines.Text(), " ")
		n, err := strconv.Atoi(number)
		if err != nil {
			continue // of package testing
		}
		p.mu.Lock()
		p.answers[n] <- text
		p.mu.Unlock()
	}
	p.cmd.Wait()
	close(p.gone)
}

// kill ends the process by SIGKILL.
func (p *peer) kill() {
	p.cmd.Process.Kill()
	<-p.gone
}

// begin tells the peer to do something. The channel has the answer.
func (p *peer) begin(verb string, args ...any) <-chan string {
	p.Helper()
	p.mu.Lock()
	p.last++
	n, answer := p.last, make(chan string, 1)
	p.answers[n] = answer
	p.mu.Unlock()
	line := fmt.Sprint(n, " ", verb)
	for _, a := range args {
		line += fmt.Sprint(" ", a)
	}
	if _, err := io.WriteString(p.in, line+"\n"); err != nil {
		p.Fatal(err)
	}
	return answer
}

// try returns the answer of the peer, "ok" or an error.
func (p *peer) try(verb string, args ...any) string {
	p.Helper()
	return p.await(p.begin(verb, args...))
}

func (p *peer) await(answer <-chan string) string {
	p.Helper()
	select {
	case text := <-answer:
		return text
	case <-p.gone:
		p.Fatal("the other process has ended")
	case <-time.After(2 * time.Minute):
		p.Fatal("the other process has not answered in 2 minutes")
	}
	return ""
}

// do has it do something that must succeed.
func (p *peer) do(verb string, args ...any) {
	p.Helper()
	if text := p.try(verb, args...); text != "ok" {
		p.Fatalf("%s%v in the other process: %s", verb, args, text)
	}
}

// TestReachFilePeer is what a peer runs.
func TestReachFilePeer(t *testing.T) {
	dsn := os.Getenv(peerDSN)
	if dsn == "" {
		t.Skip("it is for another test to start")
	}
	db, err := sql.Open("dblocker", dsn)
	must(t, err)
	a := &actor{db: db, held: make(map[string]func() error)}
	var out sync.Mutex
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		f := strings.Fields(lines.Text())
		go func() {
			text := "ok"
			if err := a.do(f[1], f[2:]...); err != nil {
				text = strings.ReplaceAll(err.Error(), "\n", " ")
			}
			out.Lock()
			defer out.Unlock()
			fmt.Println(f[0], text)
		}()
	}
	os.Exit(0)
}

// An actor does to a database what it is told, and keeps what that has left open under its name. It is in a peer, or in the process
// of the test.
type actor struct {
	db *sql.DB

	mu   sync.Mutex // guards what follows
	held map[string]func() error
}

// do does something. Whatever waits, waits until its context ends: see lockWays.
func (a *actor) do(verb string, args ...string) error {
	ctx := context.Background()
	switch verb {
	case "end":
		return a.end(args[0])
	case "within": // a time, then the rest
		d, err := time.ParseDuration(args[0])
		if err != nil {
			return err
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
		verb, args = args[1], args[2:]
	case "waits":
		_, err := a.waits(args[0], args[1], args[2:]...)
		return err
	case "count": // how many goroutines, how often, by a way
		return a.count(args[0], args[1], args[2:]...)
	}
	way := lockWays[verb]
	if way == nil {
		return fmt.Errorf("what is %q?", verb)
	}
	name, user := "", args[0]
	if len(args) > 1 {
		name, user = args[0], args[1]
	}
	end, err := way(WithUser(ctx, user), a.db, user)
	if err != nil {
		return err
	}
	if name == "" {
		return end()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held[name] = end
	return nil
}

func (a *actor) end(name string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	end := a.held[name]
	delete(a.held, name)
	if end == nil {
		return errors.New("nothing has the name " + name)
	}
	return end()
}

// A lockWay is one to use the lock of the user of ctx. What lasts is ended by end.
type lockWay func(ctx context.Context, db *sql.DB, user string) (end func() error, err error)

func nothing() error { return nil }

var lockWays = map[string]lockWay{
	"write": func(ctx context.Context, db *sql.DB, user string) (func() error, error) {
		_, err := db.ExecContext(ctx, "UPDATE counters SET n = n + 1 WHERE name = ?", user)
		return nothing, err
	},
	"read": func(ctx context.Context, db *sql.DB, user string) (func() error, error) {
		var n int
		return nothing, db.QueryRowContext(ctx, "SELECT n FROM counters WHERE name = ?", user).Scan(&n)
	},
	"untagged": func(ctx context.Context, db *sql.DB, user string) (func() error, error) {
		_, err := db.Exec("UPDATE counters SET n = n + 1 WHERE name = ?", user)
		return nothing, err
	},
	"rows": func(ctx context.Context, db *sql.DB, user string) (func() error, error) {
		rows, err := db.QueryContext(context.WithoutCancel(ctx), "SELECT value FROM generate")
		if err != nil {
			return nil, err
		}
		rows.Next()
		return rows.Close, nil
	},
	"section":   sectionWay(Lock),
	"rsection":  sectionWay(RLock),
	"try":       sectionWay(TryLock),
	"tryshared": sectionWay(TryRLock),
	"all":       sectionWay(LockAll),
	"users": sectionWay(func(ctx context.Context, db Handle, opts ...SectionOption) (context.Context, func(), error) {
		id, _ := identityFrom(ctx)
		return LockUsers(ctx, db, "z", id.User, "y")
	}),
	"tx":     txWay(nil, "UPDATE counters SET n = n + 1 WHERE name = ?"),
	"rtx":    txWay(&sql.TxOptions{ReadOnly: true}, "SELECT n FROM counters WHERE name = ?"),
	"joined": joinedWay,
	"raw": func(ctx context.Context, db *sql.DB, user string) (func() error, error) {
		c, err := db.Conn(context.Background())
		if err != nil {
			return nil, err
		}
		if _, err := c.ExecContext(ctx, "BEGIN"); err != nil {
			c.Close()
			return nil, err
		}
		return func() error {
			_, err := c.ExecContext(WithUser(context.Background(), user), "COMMIT")
			return errors.Join(err, c.Close())
		}, nil
	},
	// A read, and then a write of one more, under one lock.
	"insection": func(ctx context.Context, db *sql.DB, user string) (func() error, error) {
		return nothing, Do(ctx, db, func(ctx context.Context) error { return raiseCounter(ctx, db, user) })
	},
	"inusers": func(ctx context.Context, db *sql.DB, user string) (func() error, error) {
		ctx, unlock, err := LockUsers(ctx, db, "z", user)
		defer unlock()
		if err != nil {
			return nothing, err
		}
		return nothing, raiseCounter(ctx, db, user)
	},
	"inall": func(ctx context.Context, db *sql.DB, user string) (func() error, error) {
		ctx, unlock, err := LockAll(ctx, db)
		defer unlock()
		if err != nil {
			return nothing, err
		}
		return nothing, raiseCounter(ctx, db, user)
	},
	"intx": func(ctx context.Context, db *sql.DB, user string) (func() error, error) {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return nothing, err
		}
		defer tx.Rollback()
		if err := raiseCounter(ctx, tx, user); err != nil {
			return nothing, err
		}
		return nothing, tx.Commit()
	},
}

func sectionWay(begin func(context.Context, Handle, ...SectionOption) (context.Context, func(), error)) lockWay {
	return func(ctx context.Context, db *sql.DB, user string) (func() error, error) {
		ctx, stop := endless(ctx)
		_, unlock, err := begin(ctx, db)
		stop()
		return func() error { unlock(); return nil }, err
	}
}

// endless returns a context that ends with ctx until stop is called: a wait is to end with it, and not what was waited for.
func endless(ctx context.Context) (_ context.Context, stop func() bool) {
	on, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	return on, context.AfterFunc(ctx, func() { cancel(ctx.Err()) })
}

func txWay(opts *sql.TxOptions, query string) lockWay {
	return func(ctx context.Context, db *sql.DB, user string) (func() error, error) {
		ctx, stop := endless(ctx)
		defer stop()
		tx, err := db.BeginTx(ctx, opts)
		if err != nil {
			return nil, err
		}
		if _, err := tx.ExecContext(ctx, query, user); err != nil {
			tx.Rollback()
			return nil, err
		}
		return tx.Commit, nil
	}
}

// joinedWay is a transaction that was begun for nobody, which the user of a statement joins.
func joinedWay(ctx context.Context, db *sql.DB, user string) (func() error, error) {
	tx, err := db.Begin()
	if err != nil {
		return nil, err
	}
	if _, err := tx.ExecContext(ctx, "UPDATE counters SET n = n + 1 WHERE name = ?", user); err != nil {
		tx.Rollback()
		return nil, err
	}
	return tx.Commit, nil
}

func raiseCounter(ctx context.Context, q interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}, user string) error {
	var n int
	if err := q.QueryRowContext(ctx, "SELECT n FROM counters WHERE name = ?", user).Scan(&n); err != nil {
		return err
	}
	_, err := q.ExecContext(ctx, "UPDATE counters SET n = ? WHERE name = ?", n+1, user)
	return err
}

// count does something many times, in several goroutines, each of which takes all ways in turn.
func (a *actor) count(workers, times string, ways ...string) error {
	n, _ := strconv.Atoi(workers)
	m, _ := strconv.Atoi(times)
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			for j := range m {
				way, user, _ := strings.Cut(ways[(i+j)%len(ways)], ":")
				if user == "" {
					user = "a"
				}
				if err := a.do(way, user); err != nil {
					errs[i] = errors.Join(errs[i], fmt.Errorf("%s: %w", way, err))
				}
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// waits has each of several goroutines do one thing many times, and returns how long each has taken.
func (a *actor) waits(workers, times string, ways ...string) (waitSample, error) {
	n, _ := strconv.Atoi(workers)
	m, _ := strconv.Atoi(times)
	errs, samples := make([]error, n), make([]waitSample, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			way, user, _ := strings.Cut(ways[i%len(ways)], ":")
			for range m {
				began := time.Now()
				if err := a.do(way, user); err != nil && !errors.Is(err, sql.ErrNoRows) {
					errs[i] = errors.Join(errs[i], fmt.Errorf("%s: %w", way, err))
				}
				samples[i] = append(samples[i], time.Since(began))
			}
		})
	}
	all.Wait()
	return slices.Concat(samples...), errors.Join(errs...)
}

// A waitSample is how long calls have waited.
type waitSample []time.Duration

func (s waitSample) longestAndMedian() (longest, median time.Duration) {
	slices.Sort(s)
	return s[len(s)-1], s[len(s)/2]
}
