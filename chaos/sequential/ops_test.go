package sequential

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// An execer is a handle or a transaction.
type execer interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
}

// A beginner is a handle.
type beginner interface {
	execer
	BeginTx(context.Context, *sql.TxOptions) (*sql.Tx, error)
}

// A prepared handle executes by statements that were prepared on it.
type prepared struct {
	*sql.DB
	stmts map[string]*sql.Stmt
}

// prepareAll prepares all texts but those that are made for a round.
func prepareAll(db *sql.DB, m menu) (prepared, error) {
	p := prepared{db, make(map[string]*sql.Stmt)}
	for _, kind := range m {
		o := &op{kind: kind, name: "none"}
		query, _ := o.statement()
		if query == "" || strings.Contains(query, ofPanic) || p.stmts[query] != nil {
			continue
		}
		s, err := db.Prepare(query)
		if err != nil {
			return p, err
		}
		p.stmts[query] = s
	}
	return p, nil
}

func (p prepared) close() (err error) {
	for _, s := range p.stmts {
		err = errors.Join(err, s.Close())
	}
	return err
}

func (p prepared) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if s := p.stmts[query]; s != nil {
		return s.ExecContext(ctx, args...)
	}
	return p.DB.ExecContext(ctx, query, args...)
}

const ofPanic = "/* the driver panics "

// texts are the statements of ops. Their arguments are what the op is about, its number, and its name.
var texts = map[kind]string{
	insert:           "INSERT INTO log (who, n, did) VALUES (?1, ?2, ?3)",
	insertOnce:       "INSERT INTO log (who, n, did) VALUES (?3, ?2, ?3)",
	insertOrIgnore:   "INSERT OR IGNORE INTO log (who, n, did) VALUES (?1, ?2, ?3)",
	insertOrRollback: "INSERT OR ROLLBACK INTO log (who, n, did) VALUES (?1, ?2, ?3), ('first', 2, ?3)",
	insertOrFail:     "INSERT OR FAIL INTO log (who, n, did) VALUES (?1, ?2, ?3), ('first', 2, ?3)",
	insertOrReplace:  "INSERT OR REPLACE INTO log (who, n, did) VALUES (?1, ?2, ?3)",
	upsert:           "INSERT INTO log (who, n, did) VALUES (?1, ?2, ?3) ON CONFLICT (who) DO UPDATE SET n = excluded.n, did = excluded.did",
	update:           "UPDATE log SET n = n + ?2, did = ?3 WHERE who = ?1",
	remove:           "DELETE FROM log WHERE who = ?1",
	count:            "UPDATE counters SET n = n + 1, did = ?3 WHERE name = ?1",
	countAll:         "UPDATE counters SET n = n + 1, did = ?3",
	refused:          "INSERT INTO strict VALUES (?1, ?3)",
	addParent:        "INSERT INTO parents VALUES (?1, ?3)",
	dropParent:       "DELETE FROM parents WHERE id = ?1",
	addChild:         "INSERT INTO children VALUES (?1, ?3)",
	dropChildren:     "DELETE FROM children WHERE parent = ?1",
	addLate:          "INSERT INTO late VALUES (?1, ?3)",
	dropLate:         "DELETE FROM late WHERE parent = ?1",
	addBig:           "INSERT INTO big VALUES (zeroblob(20000), ?3)",
	dropBig:          "DELETE FROM big",
	panicBefore:      "INSERT INTO log (who, n, did) VALUES (?3, ?2, ?3) " + ofPanic + "before that, %s */",
	panicAfter:       "INSERT INTO log (who, n, did) VALUES (?3, ?2, ?3) " + ofPanic + "after that, %s */",
	mark:             "INSERT INTO journal (did) VALUES (?3)",
}

// drops is what a journal has of what the op drops; "" if it does not.
func (o *op) drops() string {
	switch o.kind {
	case remove:
		return fmt.Sprint("who ", o.at%entries)
	case dropParent:
		return fmt.Sprint("parent ", o.at%parents)
	case dropChildren:
		return fmt.Sprint("child ", o.at%parents)
	case dropLate:
		return fmt.Sprint("late ", o.at%parents)
	case dropBig:
		return "big"
	}
	return ""
}

// statement is the text of an op, and its arguments.
func (o *op) statement() (string, []any) {
	query := texts[o.kind]
	if o.kind == panicBefore || o.kind == panicAfter {
		query = fmt.Sprintf(query, strings.Fields(o.name)[0])
	}
	var about any = fmt.Sprint("who ", o.at%entries)
	switch o.kind {
	case count:
		about = o.at % counters
	case addParent, dropParent, addChild, dropChildren, addLate, dropLate:
		about = o.at % parents
	}
	all, args := []any{about, o.n, o.name}, []any{}
	for i, arg := range all {
		if strings.Contains(query, fmt.Sprint("?", i+1)) {
			query = strings.ReplaceAll(query, fmt.Sprint("?", i+1), fmt.Sprint("?", len(args)+1))
			args = append(args, arg)
		}
	}
	return query, args
}

// call does an op, and returns what it was told. Its error is one that no op may have.
func (o *op) call(ctx context.Context, db execer) (res result, err error) {
	defer func() {
		if r := recover(); r == driverPanic {
			res, err = fails("panic"), nil
		} else if r != nil {
			panic(r)
		}
	}()
	switch o.kind {
	case read:
		e, err := readEntry(ctx, db, o.at%entries)
		if err != nil {
			return failure(err)
		}
		return result{read: state{log: [entries]entry{e}}}, nil
	case everything:
		s, err := readAll(ctx, db)
		if err != nil {
			return failure(err)
		}
		return result{read: s}, nil
	case inTx:
		return o.callTx(ctx, db.(beginner))
	}
	query, args := o.statement()
	done, err := db.ExecContext(ctx, query, args...)
	if err != nil {
		return failure(err)
	}
	if res.rows, err = done.RowsAffected(); err == nil && o.kind.tellsID() {
		res.id, err = done.LastInsertId()
	}
	return res, err
}

// failure is an error of an op's statement.
func failure(err error) (result, error) {
	for text, kind := range map[string]string{
		"UNIQUE": "unique", "CHECK": "check", "FOREIGN KEY": "foreign key", "refused": "refused", "full": "full", "disk I/O": "i/o",
	} {
		if strings.Contains(err.Error(), text) {
			return fails(kind), nil
		}
	}
	return result{}, err
}

func (o *op) callTx(ctx context.Context, db beginner) (res result, err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return failure(err)
	}
	defer tx.Rollback()
	var all []string
	for _, step := range o.inMarks() {
		res, err := step.call(ctx, tx)
		switch {
		case err != nil:
			return result{}, err
		case undone[res.failed]:
			return res, nil
		}
		if step.kind != mark {
			all = append(all, res.String())
		}
	}
	end := tx.Rollback
	if o.commit {
		end = tx.Commit
	}
	if err := end(); err != nil {
		return failure(err)
	}
	return result{steps: strings.Join(all, "; ")}, nil
}

// inMarks are the steps between marks in the journal.
func (o *op) inMarks() []op {
	m := op{kind: mark, name: o.name}
	return append(append([]op{m}, o.steps...), m)
}

func readEntry(ctx context.Context, db execer, at int) (e entry, err error) {
	rows, err := db.QueryContext(ctx, "SELECT id, n FROM log WHERE who = ?", fmt.Sprint("who ", at))
	if err != nil {
		return e, err
	}
	defer rows.Close()
	for rows.Next() {
		err = errors.Join(err, rows.Scan(&e.id, &e.n))
	}
	return e, errors.Join(err, rows.Err())
}

// readAll reads all in one statement.
func readAll(ctx context.Context, db execer) (s state, err error) {
	hasLate := 0
	rows, err := db.QueryContext(ctx, "SELECT count(*) FROM sqlite_master WHERE name = 'late'")
	if err != nil {
		return s, err
	}
	for rows.Next() {
		err = rows.Scan(&hasLate)
	}
	rows.Close()
	query := `SELECT 'last', 0, seq, 0 FROM sqlite_sequence WHERE name = 'log' UNION ALL SELECT 'log', substr(who, 5), id, n FROM log WHERE who LIKE 'who %'
		UNION ALL SELECT 'counter', name, n, 0 FROM counters UNION ALL SELECT 'parent', id, 0, 0 FROM parents
		UNION ALL SELECT 'children', parent, count(*), 0 FROM children GROUP BY parent UNION ALL SELECT 'big', 0, count(*), 0 FROM big`
	if hasLate > 0 {
		query += " UNION ALL SELECT 'late', parent, count(*), 0 FROM late GROUP BY parent"
	}
	if rows, err = db.QueryContext(ctx, query); err != nil {
		return s, err
	}
	defer rows.Close()
	for rows.Next() {
		var what string
		var at int
		var a, b int64
		if err := rows.Scan(&what, &at, &a, &b); err != nil {
			return s, err
		}
		switch what {
		case "last":
			s.last = a
		case "log":
			s.log[at] = entry{a, b}
		case "counter":
			s.counters[at] = a
		case "parent":
			s.parents[at] = true
		case "children":
			s.children[at] = a
		case "late":
			s.late[at] = a
		case "big":
			s.big = a
		}
	}
	return s, rows.Err()
}

// A menu is what ops are chosen from.
type menu []kind

var (
	usual = menu{
		insert, insert, insert, insertOnce, insertOnce, insertOrIgnore, insertOrRollback, insertOrFail, insertOrReplace, upsert,
		update, update, update, remove, remove, remove, count, countAll, refused, read, inTx,
	}
	foreign = append(usual[:len(usual):len(usual)], addParent, addParent, dropParent, dropParent, addChild, addChild, dropChildren)
	late    = append(foreign[:len(foreign):len(foreign)], addLate, addLate, dropLate)
	large   = append(usual[:len(usual):len(usual)], addBig, addBig, addBig, addBig, dropBig)
	// The error of an INSERT OR FAIL hides that its commit has failed, on the bare driver too.
	faulty  = slices.DeleteFunc(slices.Clone(usual), func(k kind) bool { return k == insertOrFail })
	panics  = menu{panicBefore, panicAfter}
	inSteps = menu{insert, insertOnce, update, remove, count, read}
)

// choose makes an op. The first word of a name is the round's.
func (m menu) choose(dice *rand.Rand, name string) *op {
	o := &op{kind: m[dice.IntN(len(m))], name: name, at: dice.IntN(60), n: int64(dice.IntN(60))}
	if dice.IntN(12) == 0 {
		o.n = 100
	}
	if o.kind == inTx {
		o.commit = dice.IntN(4) > 0
		for i := range 1 + dice.IntN(3) {
			o.steps = append(o.steps, *inSteps.choose(dice, fmt.Sprint(name, ".", i)))
		}
	}
	return o
}
