package powercut

import (
	"database/sql"
	"fmt"
	"maps"
	"strings"
)

// A claim is something that a writer is about to do, all of it or nothing, and is noted again when it was told
// that it is done.
type claim struct {
	sets  map[string]int // what is at these keys then; 0 is nothing
	added string         // a counter that is one more then, or ""
	at    int            // where it is in the log of events
}

type done struct{ *claim }

// A ledger has what must be there after a part of what was recorded. No two claims of different writers
// have a key in common.
type ledger struct {
	sure  map[string]int    // at each key, by what was done
	open  map[*claim]bool   // that were not done yet
	added map[string][2]int // of each counter: how many for certain, and at most

	// isTorn tells that a sync of a log has failed, and that what was in it is not known to be in the database. Where a checkpoint has
	// copied pages whose commits the disk has only in part, a power cut breaks the database. With synchronous=FULL no such commit is in
	// the log: what its own sync does not cover is not committed.
	isTorn bool
	tornAt int // in the log of events

	// refuses tells that somebody was told of that, and nobody has begun to mend it: then no write is acknowledged.
	refuses   bool
	refusesAt int
	mends     int      // how many are at it
	mendsAt   int      // when the last one has ended
	wrong     []string // what was acknowledged even so
}

func newLedger() *ledger {
	return &ledger{sure: make(map[string]int), open: make(map[*claim]bool), added: make(map[string][2]int)}
}

// play notes a claim, or that one is done.
func (l *ledger) play(note any) {
	switch c := note.(type) {
	case *claim:
		l.open[c] = true
		l.add(c.added, 0, 1)
	case done:
		delete(l.open, c.claim)
		maps.Copy(l.sure, c.sets)
		l.add(c.added, 1, 0)
	}
}

// playFault notes a sync that has failed, and that it is mended.
func (l *ledger) playFault(at int, e event) {
	switch n := e.note.(type) {
	case *claim:
		n.at = at
	case notDurable:
		if n.at > l.mendsAt && l.mends == 0 && !l.refuses {
			l.refuses, l.refusesAt = true, at
		}
	case done:
		if l.refuses && n.at > l.refusesAt {
			l.wrong = append(l.wrong, fmt.Sprintf("acknowledged at event %d, after a sync had failed: %v %s", at, n.sets, n.added))
		}
	case *mending:
		n.at = at
		l.refuses, l.mends = false, l.mends+1
	case mended:
		l.mendsAt, l.mends = at, l.mends-1
		if n.done && n.at > l.tornAt {
			l.isTorn = false
		}
	}
	if e.kind == dropped {
		l.isTorn, l.tornAt = true, at
	}
}

// notDurable is noted when a claim has failed since a sync has.
type notDurable struct{ *claim }

// mending is noted when a writer begins to have the log copied into the database and cut, mended when that has ended.
type (
	mending struct{ at int }
	mended  struct {
		*mending
		done bool
	}
)

// settle takes for done what of a database is as in a claim that is open.
func (l *ledger) settle(f *found) {
	for c := range l.open {
		for key, value := range c.sets {
			if f.at[key] == value {
				l.play(done{c})
				break
			}
		}
	}
	for counter, n := range f.counters {
		l.added[counter] = [2]int{n, n}
	}
	l.open = make(map[*claim]bool)
}

func (l *ledger) add(counter string, sure, most int) {
	if counter != "" {
		n := l.added[counter]
		l.added[counter] = [2]int{n[0] + sure, n[1] + most}
	}
}

// compare says what of a database is not as it must be.
func (l *ledger) compare(f *found) (wrong []string) {
	want := maps.Clone(l.sure)
	for c := range l.open {
		was, is := 0, 0
		for key, value := range c.sets {
			if _, ok := l.sure[key]; !ok {
				want[key] = 0
			}
			if f.at[key] == value {
				is++
				want[key] = value
			} else {
				was++
			}
		}
		if was > 0 && is > 0 {
			wrong = append(wrong, fmt.Sprintf("half there: of %v, which was begun, there is %d", c.sets, is))
		}
	}
	for key, value := range want {
		if f.at[key] != value {
			wrong = append(wrong, fmt.Sprintf("lost: %s is %d, and was acknowledged to be %d", key, f.at[key], value))
		}
	}
	for key := range f.at {
		if _, ok := want[key]; !ok {
			wrong = append(wrong, fmt.Sprintf("from nowhere: %s is %d", key, f.at[key]))
		}
	}
	for counter, n := range l.added {
		if is := f.counters[counter]; is < n[0] || is > n[1] {
			wrong = append(wrong, fmt.Sprintf("lost: counter %s is %d, and %d of %d were acknowledged", counter, is, n[0], n[1]))
		}
	}
	return append(wrong, f.torn...)
}

// A found is what is in a database.
type found struct {
	at       map[string]int
	counters map[string]int
	torn     []string
}

const schema = `
	CREATE TABLE calls (k INTEGER, part INTEGER, v INTEGER NOT NULL, data BLOB, PRIMARY KEY (k, part));
	CREATE INDEX calls_v ON calls (v);
	CREATE TABLE counters (name TEXT PRIMARY KEY, n INTEGER NOT NULL);
	INSERT INTO counters VALUES ('a', 0), ('b', 0), ('c', 0), ('d', 0)`

// parts is how many rows a key has.
func parts(k int) int { return k%3 + 2 }

func keyOf(k int) string { return fmt.Sprint("call ", k) }

// look reads a database. Its error says that this is broken.
func look(db *sql.DB) (*found, error) {
	f := &found{at: make(map[string]int), counters: make(map[string]int)}
	return f, f.look(db, "")
}

// look adds what is in a database, its keys with something before them.
func (f *found) look(db *sql.DB, before string) error {
	var ok string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&ok); err != nil || ok != "ok" {
		return fmt.Errorf("integrity_check: %.200s, %v", strings.ReplaceAll(ok, "\n", "; "), err)
	}
	err := each(db, "SELECT k, count(*), min(v), max(v) FROM calls GROUP BY k", func(n []int, _ string) {
		k, count, low, high := n[0], n[1], n[2], n[3]
		f.at[before+keyOf(k)] = low
		if count != parts(k) || low != high {
			f.torn = append(f.torn, fmt.Sprintf("half there: call %d has %d rows, want %d, with %d to %d", k, count, parts(k), low, high))
		}
	})
	if err == nil {
		err = each(db, "SELECT 0, 0, 0, 0, name FROM sqlite_master WHERE name LIKE 'table %'", func(_ []int, name string) { f.at[name] = 1 })
	}
	if err == nil {
		err = each(db, "SELECT n, 0, 0, 0, name FROM counters", func(n []int, name string) { f.counters[before+name] = n[0] })
	}
	return err
}

// each reads rows of four numbers and, perhaps, a text.
func each(db *sql.DB, query string, row func([]int, string)) error {
	rows, err := db.Query(query)
	if err != nil {
		return err
	}
	defer rows.Close()
	columns, _ := rows.Columns()
	for rows.Next() {
		n, text := make([]int, 4), ""
		into := []any{&n[0], &n[1], &n[2], &n[3], &text}
		if err := rows.Scan(into[:len(columns)]...); err != nil {
			return err
		}
		row(n, text)
	}
	return rows.Err()
}
