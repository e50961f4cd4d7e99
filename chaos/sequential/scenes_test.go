package sequential

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/chaos/powercut"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// A scene is a handle that combines, and what is called on it.
type scene struct {
	name        string
	driver      string
	journal     string
	options     string // of dblocker's
	menu        menu
	foreignKeys int
	panics      bool
	faults      bool // now and then the file cannot be written, or not be synced
	alone       bool // nothing is combined
}

var scenes = []scene{
	{name: "mattn", driver: "sqlite3", journal: "WAL", menu: usual},
	{name: "mattn", driver: "sqlite3", journal: "DELETE", menu: usual},
	{name: "mattn, foreign keys", driver: "sqlite3", journal: "WAL", menu: foreign, foreignKeys: 1},
	{name: "mattn, deferred foreign keys", driver: "sqlite3", journal: "WAL", menu: late, foreignKeys: 1, alone: true},
	{name: "mattn, panics", driver: "sqlite3-panics", journal: "WAL", menu: usual, panics: true},
	{name: "mattn, full", driver: "sqlite3-small", journal: "WAL", menu: large},
	{name: "mattn, full", driver: "sqlite3-small", journal: "DELETE", menu: large},
	{name: "mattn, faults", driver: "sqlite3", journal: "WAL", menu: faulty, faults: true},
	{name: "mattn, faults", driver: "sqlite3", journal: "DELETE", menu: faulty, faults: true},
	{name: "mattn, group sync", driver: "sqlite3", journal: "WAL", options: "&durability=group", menu: foreign, foreignKeys: 1},
	{name: "modernc", driver: "sqlite", journal: "WAL", menu: usual},
	{name: "modernc, foreign keys", driver: "sqlite", journal: "DELETE", menu: foreign, foreignKeys: 1},
	{name: "modernc, group sync", driver: "sqlite", journal: "WAL", options: "&durability=group", menu: usual},
	{name: "modernc, panics", driver: "sqlite-panics", journal: "WAL", menu: usual, panics: true},
	{name: "modernc, full", driver: "sqlite-small", journal: "WAL", menu: large},
}

// dsn is that of a new file.
func (s scene) dsn(t *testing.T) string {
	t.Helper()
	path := testdb.SQLite(t)
	params := fmt.Sprintf("_journal_mode=%s&_foreign_keys=%d", s.journal, s.foreignKeys)
	if !strings.HasPrefix(s.driver, "sqlite3") {
		params = fmt.Sprintf("_pragma=journal_mode(%s)&_pragma=foreign_keys(%d)&_pragma=synchronous(1)", s.journal, s.foreignKeys)
	}
	if s.faults {
		must(t, powercut.Register())
		t.Cleanup(powercut.Fail(filepath.Dir(path), fault))
		params += "&_synchronous=FULL&vfs=" + powercut.VFS
	}
	return "file:" + path + "?" + params
}

func (s scene) open(t *testing.T) *sql.DB {
	t.Helper()
	options := "lock_timeout=1m" + s.options
	if s.panics {
		options += "&dialect=sqlite&stmt_cache=0"
	}
	db := open(t, "dblocker", s.driver+"?"+options+":"+s.dsn(t))
	tables := schema
	if s.alone {
		tables += lateSchema
	}
	_, err := db.Exec(tables)
	must(t, err)
	return db
}

// armed lets what fails now and then do so.
var armed atomic.Bool

// fault lets one in some writes and syncs fail.
func fault(writes bool) (code int) {
	const full, ioWrite, ioSync = 13, 10 | 3<<8, 10 | 4<<8
	switch {
	case !armed.Load() || rand.IntN(60) > 0:
		return 0
	case !writes:
		return ioSync
	case rand.IntN(2) == 0:
		return full
	}
	return ioWrite
}

const (
	clients = 32
	calls   = 20 // of each in a round
)

// round has clients call, and checks what they were told.
func (s scene) round(t *testing.T, db prepared, start state, seed uint64, number int, failed map[string]int) {
	t.Helper()
	h := newHistory()
	var wg sync.WaitGroup
	armed.Store(true)
	for client := range clients {
		dice := rand.New(rand.NewPCG(seed, uint64(client)))
		wg.Go(func() {
			for i := range calls {
				name := fmt.Sprintf("round%d %d.%d", number, client, i)
				m := s.menu
				if s.panics && dice.IntN(100) == 0 {
					m = panics
				}
				h.somehow(t, m.choose(dice, name), dice, db)
			}
		})
	}
	wg.Wait()
	armed.Store(false)
	h.check(t, db.DB, start)
	h.count(failed)
}

// somehow calls for a user or for none, by a prepared statement or by a text, in a section or outside, and with a context that
// ends early now and then. Not so what drops: the journal does not tell who did that.
func (h *history) somehow(t *testing.T, o *op, dice *rand.Rand, db prepared) {
	ctx := context.Background()
	tagged := dice.IntN(5) > 0
	if tagged {
		ctx = dblocker.WithUser(ctx, 1+dice.IntN(12))
	}
	if tagged && dice.IntN(15) == 0 {
		section, unlock, err := dblocker.Lock(ctx, db.DB)
		if err != nil {
			t.Error(err)
			return
		}
		defer unlock()
		ctx = section
	}
	if o.drops() == "" && dice.IntN(15) == 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(dice.IntN(1000))*time.Microsecond)
		defer cancel()
	}
	if dice.IntN(3) == 0 {
		h.do(t, ctx, o, db)
	} else {
		h.do(t, ctx, o, db.DB)
	}
}

// warmUp has the round's texts that panic known for short ones, so that they are combined.
func (s scene) warmUp(t *testing.T, db *sql.DB, number int) {
	t.Helper()
	for i := range 8 {
		o := &op{kind: []kind{panicBefore, panicAfter}[i%2], name: fmt.Sprintf("round%d warm up %d", number, i)}
		_, err := o.call(t.Context(), db)
		must(t, err)
	}
	_, err := db.Exec("DELETE FROM journal")
	must(t, err)
}

// TestCombinedCallsAreSequential: calls that run together are told what calls are told that run one after the other.
func TestCombinedCallsAreSequential(t *testing.T) {
	for _, s := range scenes {
		t.Run(s.name+", "+s.journal, func(t *testing.T) {
			testdb.NoLeaks(t)
			if s.panics { // each of which is logged, with its stack
				defer slog.SetDefault(slog.Default())
				slog.SetDefault(slog.New(slog.DiscardHandler))
			}
			db, dice := s.open(t), newDice(t)
			p, err := prepareAll(db, s.menu)
			must(t, err)
			rounds, results := 0, make(map[string]int)
			combines := func() bool {
				stats, _ := dblocker.Stats(db)
				return stats.Combined > 0
			}
			for began := time.Now(); !t.Failed(); rounds++ {
				if time.Since(began) > *duration && (s.alone || rounds > 50 || combines()) { // later on a slow machine
					break
				}
				if s.panics {
					s.warmUp(t, db, rounds)
				}
				start, err := readAll(t.Context(), db)
				must(t, err)
				s.round(t, p, start, dice.Uint64(), rounds, results)
			}
			must(t, p.close())
			stats, err := dblocker.Stats(db)
			must(t, err)
			t.Logf("%d rounds; %d batches with %d calls, %d alone after that; failed: %v", rounds, stats.Batches, stats.Combined, stats.Alone, results)
			if stats.Combined > 0 == s.alone {
				t.Errorf("%d calls were combined", stats.Combined)
			}
		})
	}
}
