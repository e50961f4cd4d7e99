//go:build linux

package powercut

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/calmdocs/dblocker"
	"github.com/mattn/go-sqlite3"
)

// A load is writers at work on a database by way of dblocker, who note what they do.
type load struct {
	t    judgement
	dbs  []*sql.DB // handles on one file
	note func(what any)
	end  <-chan struct{}
	rare int // one in so many steps is no plain Exec

	failing  bool   // syncs fail now and then
	attached string // a file to attach, with the same tables, or ""
	switches bool   // the journal mode is changed now and then
	keys     atomic.Int64
}

// A judgement is a test, or what stands for one.
type judgement interface {
	Error(...any)
	Failed() bool
}

func init() {
	sql.Register("sqlite3-checkpoints", &sqlite3.SQLiteDriver{ConnectHook: func(c *sqlite3.SQLiteConn) error {
		_, err := c.Exec("PRAGMA wal_autocheckpoint = 30", nil)
		return err
	}})
}

// A writer is one goroutine, with keys of its own.
type writer struct {
	*load
	db    *sql.DB
	ctx   context.Context
	dice  *rand.Rand
	mends bool         // it is the one that restores what syncs have failed for
	own   map[int]bool // keys that have a value
}

// run has writers work until the end.
func (l *load) run(writers int) {
	var wg sync.WaitGroup
	for i := range writers {
		w := &writer{l, l.dbs[i%len(l.dbs)], context.Background(), rand.New(rand.NewPCG(uint64(i), 7)), i == 0, make(map[int]bool)}
		if i%8 != 0 {
			w.ctx = dblocker.WithUser(w.ctx, 1+i%20)
		}
		wg.Go(w.work)
	}
	wg.Wait()
}

func (w *writer) work() {
	for !w.t.Failed() {
		select {
		case <-w.end:
			return
		default:
		}
		err := w.step()
		if w.failing && isOfSync(err) {
			clear(w.own) // it is not known what is there
			time.Sleep(time.Millisecond)
			if err = nil; w.mends {
				err = w.restore()
			}
		}
		if err != nil {
			w.t.Error(err)
		}
	}
}

// step does one thing.
func (w *writer) step() error {
	if w.dice.IntN(w.rare) > 0 {
		return w.exec()
	}
	switch w.dice.IntN(20) {
	case 0, 1, 2:
		return w.inTx()
	case 3:
		return w.inSQL("BEGIN IMMEDIATE", "COMMIT")
	case 4:
		return w.inSQL("SAVEPOINT one", "RELEASE one")
	case 5, 6:
		return w.inSection()
	case 7:
		return w.returning()
	case 8, 9, 10, 11, 12:
		return w.count()
	case 13:
		return w.changeSchema()
	case 14:
		return w.checkpoint()
	case 15:
		return w.read()
	case 16:
		if w.attached != "" {
			return w.attach()
		}
	case 17:
		if w.switches {
			return w.switchJournal()
		}
	}
	return w.cancelled()
}

// claimed does what sets keys, and notes it. What fails is not known to be done.
func (l *load) claimed(c *claim, do func() error) error {
	l.note(c)
	err := do()
	switch {
	case err == nil:
		l.note(done{c})
	case errors.Is(err, dblocker.ErrNotDurable):
		l.note(notDurable{c})
	}
	return err
}

// A statement sets a key.
type statement struct {
	k, value int
	query    string
	args     []any
}

// insertion inserts all rows of a key.
const insertion = `INSERT INTO calls WITH RECURSIVE parts(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM parts WHERE i < ?4)
	SELECT ?1, i, ?2, ?3 FROM parts`

// statement makes one that sets a new key, or one of the writer's own.
func (w *writer) statement() statement {
	if len(w.own) > 0 && w.dice.IntN(3) > 0 {
		for k := range w.own {
			if w.dice.IntN(3) == 0 || len(w.own) > 30 {
				return statement{k, 0, "DELETE FROM calls WHERE k = ?", []any{k}}
			}
			v := 1 + w.dice.IntN(1e6)
			return statement{k, v, "UPDATE calls SET v = ?2, data = ?3 WHERE k = ?1", []any{k, v, w.data()}}
		}
	}
	k, v := int(w.keys.Add(1)), 1+w.dice.IntN(1e6)
	return statement{k, v, insertion, []any{k, v, w.data(), parts(k)}}
}

func (w *writer) data() []byte {
	size := w.dice.IntN(100)
	if w.dice.IntN(20) == 0 {
		size = w.dice.IntN(6000)
	}
	return make([]byte, size)
}

// noteOwn notes what the writer's keys are after its statements.
func (w *writer) noteOwn(done ...statement) {
	for _, c := range done {
		if c.value == 0 {
			delete(w.own, c.k)
		} else {
			w.own[c.k] = true
		}
	}
}

func (w *writer) claim(all ...statement) *claim {
	c := &claim{sets: make(map[string]int)}
	for _, ch := range all {
		c.sets[keyOf(ch.k)] = ch.value
	}
	return c
}

// several are statements for different keys.
func (w *writer) several() (all []statement) {
	taken := make(map[int]bool)
	for range 1 + w.dice.IntN(4) {
		if c := w.statement(); !taken[c.k] {
			taken[c.k] = true
			all = append(all, c)
		}
	}
	return all
}

func (w *writer) exec() error {
	c := w.statement()
	defer w.noteOwn(c)
	return w.claimed(w.claim(c), func() error {
		res, err := w.db.ExecContext(w.ctx, c.query, c.args...)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || int(n) != parts(c.k) {
			return fmt.Errorf("%s: %d rows, %v; want %d", c.query, n, err, parts(c.k))
		}
		return nil
	})
}

func (w *writer) inTx() error {
	all := w.several()
	return w.claimedOrUndone(all, w.dice.IntN(5) == 0, func(commit bool) error {
		tx, err := w.db.BeginTx(w.ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		for _, c := range all {
			if _, err := tx.ExecContext(w.ctx, c.query, c.args...); err != nil {
				return err
			}
		}
		if !commit {
			return tx.Rollback()
		}
		return tx.Commit()
	})
}

// claimedOrUndone claims nothing of what is to be undone.
func (w *writer) claimedOrUndone(all []statement, undone bool, do func(commit bool) error) error {
	if undone {
		return do(false)
	}
	defer w.noteOwn(all...)
	return w.claimed(w.claim(all...), func() error { return do(true) })
}

// inSQL begins and ends a transaction by statements.
func (w *writer) inSQL(begin, end string) error {
	all := w.several()
	defer w.noteOwn(all...)
	return w.claimed(w.claim(all...), func() error {
		conn, err := w.db.Conn(w.ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		for _, c := range append(append([]statement{{query: begin}}, all...), statement{query: end}) {
			if _, err := conn.ExecContext(w.ctx, c.query, c.args...); err != nil {
				conn.ExecContext(w.ctx, "ROLLBACK") // if the transaction is still open
				return fmt.Errorf("%s: %w", c.query, err)
			}
		}
		return nil
	})
}

func (w *writer) inSection() error {
	var opts []dblocker.SectionOption
	if w.dice.IntN(2) == 0 {
		opts = append(opts, dblocker.Pin())
	}
	ctx, unlock, err := dblocker.Lock(dblocker.WithUser(w.ctx, 1+w.dice.IntN(20)), w.db, opts...)
	if err != nil {
		return err
	}
	defer unlock()
	inside := *w
	inside.ctx = ctx
	for range 2 {
		if err := inside.exec(); err != nil {
			return err
		}
	}
	return nil
}

// returning writes by a Query, whose rows are read to the end.
func (w *writer) returning() error {
	c := w.statement()
	defer w.noteOwn(c)
	return w.claimed(w.claim(c), func() error {
		rows, err := w.db.QueryContext(w.ctx, c.query+" RETURNING v", c.args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		n := 0
		for rows.Next() {
			n++
		}
		if rows.Err() == nil && n != parts(c.k) {
			return fmt.Errorf("%s: %d rows, want %d", c.query, n, parts(c.k))
		}
		return errors.Join(rows.Err(), rows.Close())
	})
}

func (w *writer) count() error {
	name := string(rune('a' + w.dice.IntN(4)))
	return w.claimed(&claim{added: name}, func() error {
		_, err := w.db.ExecContext(w.ctx, "UPDATE counters SET n = n + 1 WHERE name = ?", name)
		return err
	})
}

// cancelled does what may be done or not, on a key that nobody uses again.
func (w *writer) cancelled() error {
	c := w.statement()
	delete(w.own, c.k)
	ctx, cancel := context.WithTimeout(w.ctx, time.Duration(w.dice.IntN(2000))*time.Microsecond)
	defer cancel()
	err := w.claimed(w.claim(c), func() error {
		_, err := w.db.ExecContext(ctx, c.query, c.args...)
		return err
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (w *writer) changeSchema() error {
	name := fmt.Sprint("table ", w.keys.Add(1))
	create, drop := statement{0, 1, "CREATE TABLE %q (x)", nil}, statement{0, 0, "DROP TABLE %q", nil}
	for _, c := range []statement{create, drop} {
		err := w.claimed(&claim{sets: map[string]int{name: c.value}}, func() error {
			_, err := w.db.ExecContext(w.ctx, fmt.Sprintf(c.query, name))
			return err
		})
		if err != nil || w.dice.IntN(10) == 0 {
			return err // one in ten stays
		}
	}
	return nil
}

func (w *writer) checkpoint() error {
	mode := []string{"PASSIVE", "FULL", "RESTART", "TRUNCATE"}[w.dice.IntN(4)]
	if mode == "TRUNCATE" {
		return w.restore()
	}
	var busy, pages, moved int
	return w.db.QueryRowContext(w.ctx, "PRAGMA wal_checkpoint("+mode+")").Scan(&busy, &pages, &moved)
}

// read keeps rows open for a moment, so that checkpoints cannot do all.
func (w *writer) read() error {
	rows, err := w.db.QueryContext(w.ctx, "SELECT k FROM calls LIMIT 200")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
	}
	return rows.Err()
}
