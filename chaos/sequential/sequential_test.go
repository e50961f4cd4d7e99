package sequential

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

var (
	duration = flag.Duration("sequential.duration", 400*time.Millisecond, "how long each scene lasts")
	seedFlag = flag.Uint64("sequential.seed", 0, "of what is called; 0: a new one")
)

func newDice(t *testing.T) *rand.Rand {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64N(1e9) + 1
	}
	t.Logf("to repeat: -sequential.seed=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	must(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

// TestModelIsSQLite: one call after the other, on the bare drivers.
func TestModelIsSQLite(t *testing.T) {
	for _, s := range []scene{
		{driver: "sqlite3", journal: "WAL", menu: late, foreignKeys: 1},
		{driver: "sqlite", journal: "WAL", menu: late, foreignKeys: 1},
		{driver: "sqlite3-small", journal: "WAL", menu: large},
		{driver: "sqlite3", journal: "WAL", menu: faulty, faults: true},
		{driver: "sqlite3", journal: "DELETE", menu: faulty, faults: true},
	} {
		t.Run(fmt.Sprintf("%s, %s, faults %v", s.driver, s.journal, s.faults), func(t *testing.T) {
			db := open(t, s.driver, s.dsn(t))
			db.SetMaxOpenConns(1)
			_, err := db.Exec("PRAGMA synchronous = FULL;" + schema + lateSchema)
			must(t, err)
			dice, now, h := newDice(t), empty, newHistory()
			all := append(s.menu, everything)
			armed.Store(true)
			for i := range 1000 {
				o := all.choose(dice, fmt.Sprint("op ", i))
				got := h.do(t, t.Context(), o, db)
				next, err := now.told(called{op: o, result: got})
				must(t, err)
				now = next
			}
			armed.Store(false)
			h.check(t, db, empty)
			failed := make(map[string]int)
			h.count(failed)
			t.Logf("failed: %v", failed)
		})
	}
}

// A history is what was called.
type history struct {
	began time.Time

	mu    sync.Mutex // guards what follows
	calls []called
}

func newHistory() *history { return &history{began: time.Now()} }

func (h *history) now() int64 { return int64(time.Since(h.began)) }

// do calls, and notes what was told.
func (h *history) do(t *testing.T, ctx context.Context, o *op, db beginner) result {
	c := called{op: o, call: h.now()}
	var err error
	c.result, err = o.call(ctx, db)
	c.end = h.now()
	if err != nil {
		if c.left = ctx.Err() != nil; !c.left {
			t.Errorf("%+v: %v", *o, err)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, c)
	return c.result
}

// check reads what is there at the end, and looks for an order of all calls. The journal is empty after that.
func (h *history) check(t *testing.T, db *sql.DB, start state) {
	t.Helper()
	last := h.do(t, t.Context(), &op{kind: everything, name: "at the end"}, db)
	rows, err := db.Query("SELECT coalesce(did, ''), coalesce(dropped, '') FROM journal ORDER BY seq")
	must(t, err)
	defer rows.Close()
	var journal []row
	for rows.Next() {
		var r row
		must(t, rows.Scan(&r.did, &r.dropped))
		journal = append(journal, r)
	}
	must(t, rows.Err())
	end, wrong := judge(start, h.calls, journal)
	switch {
	case wrong != nil:
		t.Error(wrong)
	case end != last.read:
		t.Errorf("the calls lead to %+v, and there is %+v", end, last.read)
	}
	_, err = db.Exec("DELETE FROM log WHERE who LIKE 'round%'; DELETE FROM journal")
	must(t, err)
}

// count counts calls by what they failed with.
func (h *history) count(failed map[string]int) {
	for _, c := range h.calls {
		switch {
		case c.left:
			failed["cancelled"]++
		default:
			failed[c.failed]++
		}
	}
}
