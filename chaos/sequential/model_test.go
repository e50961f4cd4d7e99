package sequential

import (
	"fmt"
	"strings"
)

// How many things there are that calls are about.
const (
	entries  = 6 // of the log, beside those that come once
	counters = 2
	parents  = 3
)

// Who has written what: the last column of a table is the call's name. The triggers note in a journal in which order calls have done
// anything. Its rows are in the transaction of the call, so that it has those of all that were done, and no others.
const schema = `
	CREATE TABLE journal (seq INTEGER PRIMARY KEY AUTOINCREMENT, did TEXT, dropped TEXT);
	CREATE TABLE log (id INTEGER PRIMARY KEY AUTOINCREMENT, who TEXT UNIQUE, n INT CHECK (n < 100), did TEXT);
	CREATE TABLE counters (name INTEGER PRIMARY KEY, n INT NOT NULL, did TEXT);
	CREATE TABLE strict (who TEXT, did TEXT);
	CREATE TABLE parents (id INTEGER PRIMARY KEY, did TEXT);
	CREATE TABLE children (parent INT REFERENCES parents, did TEXT);
	CREATE TABLE big (data BLOB, did TEXT);
	INSERT INTO log (who, n) VALUES ('first', 0);
	INSERT INTO counters VALUES (0, 0, ''), (1, 0, '');
	CREATE TRIGGER log1 BEFORE INSERT ON log BEGIN INSERT INTO journal (did) VALUES (NEW.did); END;
	CREATE TRIGGER log2 AFTER UPDATE ON log BEGIN INSERT INTO journal (did) VALUES (NEW.did); END;
	CREATE TRIGGER log3 AFTER DELETE ON log BEGIN INSERT INTO journal (dropped) VALUES (OLD.who); END;
	CREATE TRIGGER counters1 AFTER UPDATE ON counters BEGIN INSERT INTO journal (did) VALUES (NEW.did); END;
	CREATE TRIGGER parents1 AFTER INSERT ON parents BEGIN INSERT INTO journal (did) VALUES (NEW.did); END;
	CREATE TRIGGER parents2 AFTER DELETE ON parents BEGIN INSERT INTO journal (dropped) VALUES ('parent ' || OLD.id); END;
	CREATE TRIGGER children1 AFTER INSERT ON children BEGIN INSERT INTO journal (did) VALUES (NEW.did); END;
	CREATE TRIGGER children2 AFTER DELETE ON children BEGIN INSERT INTO journal (dropped) VALUES ('child ' || OLD.parent); END;
	CREATE TRIGGER big1 AFTER INSERT ON big BEGIN INSERT INTO journal (did) VALUES (NEW.did); END;
	CREATE TRIGGER big2 AFTER DELETE ON big BEGIN INSERT INTO journal (dropped) VALUES ('big'); END;
	CREATE TRIGGER refuses BEFORE INSERT ON strict BEGIN
		INSERT INTO journal (did) VALUES (NEW.did);
		SELECT RAISE(ROLLBACK, 'refused');
	END;`

// lateSchema has a foreign key that is looked at when the transaction ends.
const lateSchema = `
	CREATE TABLE late (parent INT REFERENCES parents DEFERRABLE INITIALLY DEFERRED, did TEXT);
	CREATE TRIGGER late1 AFTER INSERT ON late BEGIN INSERT INTO journal (did) VALUES (NEW.did); END;
	CREATE TRIGGER late2 AFTER DELETE ON late BEGIN INSERT INTO journal (dropped) VALUES ('late ' || OLD.parent); END;`

// A state is what the model knows of the database.
type state struct {
	last     int64 // id that SQLite has noted as given
	log      [entries]entry
	counters [counters]int64
	parents  [parents]bool
	children [parents]int64 // that refer to them
	late     [parents]int64 // the same
	big      int64
}

type entry struct {
	id, n int64 // id is 0 if there is none
}

// empty is what schema makes.
var empty = state{last: 1}

// An op is one call.
type op struct {
	kind kind
	name string // no other has it; also the entry of what inserts once
	at   int    // which entry, counter or parent
	n    int64  // a number that it writes

	steps  []op // of a transaction
	commit bool
}

type kind uint8

const (
	insert kind = iota
	insertOnce
	insertOrIgnore
	insertOrRollback // two rows, the second of which fails
	insertOrFail     // the same, and the first stays
	insertOrReplace
	upsert
	update
	remove
	count
	countAll
	refused // by a trigger, which rolls back
	read
	inTx
	panicBefore // of the driver, which has done nothing
	panicAfter  // of the driver, which has inserted
	addParent
	dropParent
	addChild
	dropChildren
	addLate
	dropLate
	addBig
	dropBig
	mark // in the journal, where a transaction begins or ends
	everything
)

func (k kind) String() string {
	switch k {
	case read:
		return "read an entry"
	case everything:
		return "read everything"
	case inTx:
		return "a transaction"
	}
	return texts[k]
}

// A result is what a call was told.
type result struct {
	failed string // the kind of its error
	rows   int64  // RowsAffected
	id     int64  // LastInsertId, where it means something
	read   state
	steps  string
}

// undone are the errors that any call may have. It has done nothing then.
var undone = map[string]bool{"full": true, "i/o": true}

func ok(n int64) result          { return result{rows: n} }
func fails(why string) result    { return result{failed: why} }
func (k kind) tellsID() bool     { return k == insert || k == insertOnce || k == insertOrReplace }
func (k kind) insertsOnce() bool { return k == insertOnce || k == panicAfter }

// does is what the database does in a call.
func (s state) does(o op) (state, result) {
	e := &s.log[o.at%entries]
	switch o.kind {
	case update:
		switch {
		case e.id == 0:
			return s, ok(0)
		case e.n+o.n >= 100:
			return s, fails("check")
		}
		e.n += o.n
		return s, ok(1)
	case remove:
		if e.id == 0 {
			return s, ok(0)
		}
		*e = entry{}
		return s, ok(1)
	case count:
		s.counters[o.at%counters]++
		return s, ok(1)
	case countAll:
		for i := range s.counters {
			s.counters[i]++
		}
		return s, ok(counters)
	case refused:
		return s, fails("refused")
	case panicBefore:
		return s, fails("panic")
	case read:
		return s, result{read: state{log: [entries]entry{*e}}}
	case everything:
		return s, result{read: s}
	case inTx:
		return s.doesInTx(o)
	case addParent, dropParent, addChild, dropChildren, addLate, dropLate:
		return s.refers(o)
	case addBig:
		s.big++
		return s, ok(1)
	case dropBig:
		n := s.big
		s.big = 0
		return s, ok(n)
	}
	return s.inserts(o)
}

// next is the next id.
func (s state) next() int64 {
	id := s.last
	for _, e := range s.log {
		id = max(id, e.id)
	}
	return id + 1
}

func (s state) inserts(o op) (state, result) {
	e := &s.log[o.at%entries]
	if o.kind.insertsOnce() {
		e = new(entry) // nothing is done to it later
	}
	taken := e.id != 0
	switch {
	case o.kind == insertOrIgnore && (taken || o.n >= 100):
		s.last = s.next() // an id is given even so
		return s, ok(0)
	case o.n >= 100:
		return s, fails("check")
	case o.kind == insertOrRollback, taken && (o.kind == insert || o.kind == insertOrFail):
		return s, fails("unique")
	case taken && o.kind == upsert:
		s.last = s.next()
		e.n = o.n
		return s, ok(1)
	}
	*e = entry{s.next(), o.n}
	if o.kind == insertOrFail {
		return s, fails("unique") // and SQLite has not noted the id
	}
	s.last = e.id
	switch {
	case o.kind == panicAfter:
		return s, fails("panic")
	case o.kind.tellsID():
		return s, result{rows: 1, id: s.last}
	}
	return s, ok(1)
}

// refers is for what has to do with foreign keys.
func (s state) refers(o op) (state, result) {
	at := o.at % parents
	switch o.kind {
	case addParent:
		if s.parents[at] {
			return s, fails("unique")
		}
		s.parents[at] = true
	case dropParent:
		switch {
		case !s.parents[at]:
			return s, ok(0)
		case s.children[at]+s.late[at] > 0:
			return s, fails("foreign key")
		}
		s.parents[at] = false
	case dropChildren:
		n := s.children[at]
		s.children[at] = 0
		return s, ok(n)
	case dropLate:
		n := s.late[at]
		s.late[at] = 0
		return s, ok(n)
	case addChild, addLate:
		if !s.parents[at] {
			return s, fails("foreign key")
		}
		if o.kind == addChild {
			s.children[at]++
		} else {
			s.late[at]++
		}
	}
	return s, ok(1)
}

func (s state) doesInTx(o op) (state, result) {
	now := s
	var all []string
	for _, step := range o.steps {
		var res result
		now, res = now.does(step)
		all = append(all, res.String())
	}
	if !o.commit {
		now = s
	}
	return now, result{steps: strings.Join(all, "; ")}
}

func (r result) String() string {
	switch {
	case r.failed != "":
		return "failed: " + r.failed
	case r.steps != "":
		return r.steps
	case r.read != state{}:
		return fmt.Sprintf("read %+v", r.read)
	}
	return fmt.Sprintf("%d rows, id %d", r.rows, r.id)
}
