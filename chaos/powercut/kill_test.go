//go:build linux

package powercut

import (
	"bufio"
	"database/sql"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/testdb"
	_ "modernc.org/sqlite"
)

var kills = flag.Int("powercut.kills", 8, "how often the process is killed in each scene of TestKilledProcess")

// The environment of a process that is to be killed.
const (
	childDSN   = "DBLOCKER_TEST_CHILD_DSN"
	childFirst = "DBLOCKER_TEST_CHILD_FIRST_KEY"
)

func TestMain(m *testing.M) {
	if dsn := os.Getenv(childDSN); dsn != "" {
		if err := work(dsn, os.Getenv(childFirst), os.NewFile(3, "notes")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// A line is what the process says: a claim, that it is done, or how many calls were combined.
type line struct {
	Claim    int
	Sets     map[string]int `json:",omitempty"`
	Added    string         `json:",omitempty"`
	Done     bool           `json:",omitempty"`
	Combined int64          `json:",omitempty"`
}

// A reporter is the part of the process that says what its writers note. It ends the process when
// it cannot, or something has failed.
type reporter struct {
	mu     sync.Mutex // guards what follows
	out    io.Writer
	claims map[*claim]int
}

func (r *reporter) Failed() bool { return false }

func (r *reporter) Error(args ...any) {
	fmt.Fprintln(os.Stderr, args...)
	os.Exit(1)
}

func (r *reporter) note(what any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch c := what.(type) {
	case *claim:
		r.claims[c] = len(r.claims)
		r.say(line{Claim: r.claims[c], Sets: c.sets, Added: c.added})
	case done:
		r.say(line{Claim: r.claims[c.claim], Done: true})
	}
}

// say says it in one write: what comes after that comes after the line.
func (r *reporter) say(l line) {
	text, err := json.Marshal(l)
	if err == nil {
		_, err = r.out.Write(append(text, '\n'))
	}
	if err != nil {
		r.Error(err)
	}
}

// work has writers work until the process is killed.
func work(dsn, firstKey string, out io.Writer) error {
	db, err := sql.Open("dblocker", dsn)
	if err != nil {
		return err
	}
	r := &reporter{out: out, claims: make(map[*claim]int)}
	l := &load{t: r, dbs: []*sql.DB{db}, note: r.note, rare: 20}
	var first int64
	if _, err := fmt.Sscan(firstKey, &first); err != nil {
		return err
	}
	l.keys.Store(first)
	go func() {
		for range time.Tick(5 * time.Millisecond) {
			if stats, err := dblocker.Stats(db); err == nil {
				r.mu.Lock()
				r.say(line{Claim: -1, Combined: stats.Combined})
				r.mu.Unlock()
			}
		}
	}()
	l.run(64)
	return nil
}

// TestKilledProcess: whenever a process is killed, all that was acknowledged is there, and each call and each
// transaction is there wholly or not at all.
func TestKilledProcess(t *testing.T) {
	const mattn, modernc = "sqlite3-checkpoints?lock_timeout=1m:file:%s?_journal_mode=%s", "sqlite?lock_timeout=1m:file:%s?_pragma=journal_mode(%s)&_pragma=wal_autocheckpoint(30)&_pragma=synchronous(normal)"
	for _, c := range []struct{ name, bare, dsn, journal string }{
		{"mattn", "sqlite3", mattn, "WAL"},
		{"mattn", "sqlite3", mattn, "DELETE"},
		{"modernc", "sqlite", modernc, "WAL"},
		{"modernc", "sqlite", modernc, "DELETE"},
	} {
		t.Run(c.name+", "+c.journal, func(t *testing.T) {
			testdb.NoLeaks(t)
			path := testdb.SQLite(t)
			db := open(t, c.bare, "file:"+path)
			_, err := db.Exec(schema)
			must(t, err)
			must(t, db.Close())
			dice, l := newDice(t), newLedger()
			said, combined := 0, int64(0)
			for round := 0; round < *kills && !t.Failed(); round++ {
				n, ran := killed(t, fmt.Sprintf(c.dsn, path, c.journal), round*1e6, time.Duration(20+dice.IntN(200))*time.Millisecond, l)
				said, combined = said+n, combined+ran
				if dice.IntN(3) == 0 {
					continue // the next process finds the files as they are
				}
				db := open(t, c.bare, "file:"+path)
				f, err := look(db)
				must(t, err)
				report(t, l.compare(f))
				l.settle(f)
				must(t, db.Close())
			}
			t.Logf("%d claims, %d calls combined", said, combined)
			if combined == 0 {
				t.Error("nothing was combined")
			}
		})
	}
}

// patience is for a slow machine, on which it takes long until calls are combined.
const patience = 3 * time.Second

// killed starts a process, kills it some time after calls were combined in it, and plays what it has said. It returns how much that
// was, and how many calls were combined.
func killed(t *testing.T, dsn string, firstKey int, after time.Duration, l *ledger) (said int, combined int64) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDSN+"="+dsn, fmt.Sprintf("%s=%d", childFirst, firstKey))
	cmd.Stderr = os.Stderr
	in, out, err := os.Pipe()
	must(t, err)
	defer in.Close()
	cmd.ExtraFiles = []*os.File{out}
	must(t, cmd.Start())
	must(t, out.Close())
	claims := make(map[int]*claim)
	began := time.Now()
	var kill *time.Timer
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var now line
		must(t, json.Unmarshal(lines.Bytes(), &now))
		if kill == nil && (now.Combined > 0 || time.Since(began) > patience) {
			kill = time.AfterFunc(after, func() { cmd.Process.Kill() })
		}
		switch {
		case now.Claim < 0:
			combined = now.Combined
		case now.Done:
			l.play(done{claims[now.Claim]})
		default:
			said++
			claims[now.Claim] = &claim{sets: now.Sets, added: now.Added}
			l.play(claims[now.Claim])
		}
	}
	cmd.Process.Kill()
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != -1 {
		t.Fatalf("the process ended by itself, with code %d", code)
	}
	return said, combined
}
