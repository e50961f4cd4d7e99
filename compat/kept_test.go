package compat

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// A keptScene is a way in which what a server makes of some texts changes. It is run on one sql.Conn, bare and
// through dblocker, which keeps the texts prepared. Where a statement is prepared for each use, as on the bare driver,
// the results are right.
//
// A step of the script is a statement, or one of those below.
type keptScene struct {
	name   string
	texts  []string // queries; each question mark is 1
	script []string
}

// The steps that are no statement.
const (
	use      = "(the texts)"
	begin    = "(begin)"
	commit   = "(commit)"
	rollback = "(rollback)"
	raw      = "(raw) "   // the statement is sent by the inner driver
	others   = "(other) " // the statement is sent by another connection
)

// times is how often a text is used one time after the other: it is kept from the
// second on.
const times = 3

// A keptRun is one run of a scene.
type keptRun struct {
	testing.TB
	ctx   context.Context
	d     testDriver
	db    *sql.DB // for the others
	conn  keptSession
	tx    *sql.Tx
	role  string
	lines []string

	failed bool // a step of the script

	// prepares tells that each use prepares the text anew, and frozen that the scene has but one statement for each
	// text: this is what a wrapper would do that keeps them without a thought.
	// pooled tells that the session is that of the only connection of a pool.
	prepares, frozen, pooled bool
	stmts                    map[string]*sql.Stmt
}

// A keptSession is a sql.Conn, or a sql.DB with one connection.
type keptSession interface {
	preparer
	BeginTx(context.Context, *sql.TxOptions) (*sql.Tx, error)
}

// keptForms are the ways in which each scene is run. The first one is right, and the last one is what may be wrong.
var keptForms = []struct {
	title  string
	driver func(name string) string
	run    keptRun
}{
	{"bare", same, keptRun{}},
	{"texts", nameForm, keptRun{}},
	{"pool", nameForm, keptRun{pooled: true}},
	{"prepared for each use", nameForm, keptRun{prepares: true}},
	{"prepared once", same, keptRun{frozen: true}},
}

// TestKeptStatementsFollowTheSession: whatever a session, a transaction, a role or a function changes, a text gives
// through dblocker what the bare driver, which has it parsed for each use, gives. That the scenes can fail is shown by a run
// with one prepared statement for each text.
func TestKeptStatementsFollowTheSession(t *testing.T) {
	for _, d := range mainDrivers(sqliteEngine, postgresEngine, mysqlEngine) {
		t.Run(d.title, func(t *testing.T) {
			testdb.NoLeaks(t)
			stage := keptStages[d.engine.name]
			dsns := make([]string, len(keptForms))
			for i := range dsns {
				dsns[i] = d.database(t)
				setUpKept(t, d, dsns[i], stage.setUp)
			}
			wrong := 0
			for i, scene := range stage.scenes() {
				if d.name == "pgx" && i%5 != 0 {
					continue // only what the program prepares is kept there: a sample will do
				}
				if d.noDoubleQuotes && strings.HasPrefix(scene.name, "(other) ALTER TABLE t ADD COLUMN x") {
					continue // which has "x" for a string before there is a column
				}
				t.Run(scene.name, func(t *testing.T) {
					if playKept(t, d, dsns, scene) {
						wrong++
					}
				})
			}
			if wrong < stage.wrong && d.name != "pgx" && isWholeRun() {
				t.Errorf("%d scenes are wrong with one statement for each text, want %d: they prove too little", wrong, stage.wrong)
			}
		})
	}
}

// playKept runs a scene in all forms at the same time, and tells whether it is wrong in the last one.
func playKept(t *testing.T, d testDriver, dsns []string, scene keptScene) bool {
	runs := make([]keptRun, len(keptForms))
	t.Run("forms", func(t *testing.T) {
		for i, form := range keptForms {
			if d.name == "pgx" { // which keeps texts itself, and ends what goes back to the pool in a transaction
				form.run.prepares, form.run.pooled = !form.run.frozen, false
			}
			if strings.Contains(strings.Join(scene.script, ""), raw) {
				form.run.pooled = false // a sql.DB shows no connection
			}
			t.Run(form.title, func(t *testing.T) {
				t.Parallel()
				runs[i] = runKept(t, d, form.driver(d.name), dsns[i], scene, form.run)
			})
		}
	})
	if runs[0].failed {
		t.Fatalf("the scene is no good: %s", strings.Join(runs[0].lines, "\n"))
	}
	for i := 1; i < len(runs)-1; i++ {
		compareKept(t, keptForms[i].title, runs[0].lines, runs[i].lines)
	}
	return !slices.EqualFunc(runs[0].lines, runs[len(runs)-1].lines, func(a, b string) bool { return hide(a) == hide(b) })
}

func setUpKept(t *testing.T, d testDriver, dsn string, statements []string) {
	db := open(t, d.name, dsn)
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func compareKept(t *testing.T, form string, want, got []string) {
	t.Helper()
	for i := range max(len(want), len(got)) {
		if w, g := hide(line(want, i)), hide(line(got, i)); w != g {
			t.Errorf("%s, line %d\nbare: %s\n got: %s\nafter %s", form, i+1, w, g, line(want, i-1))
			return
		}
	}
}

// runKept runs a scene and returns what its texts found.
func runKept(t *testing.T, d testDriver, driverName, dsn string, scene keptScene, r keptRun) keptRun {
	r.TB, r.ctx, r.d, r.stmts = t, t.Context(), d, make(map[string]*sql.Stmt)
	open := func(driverName string) *sql.DB {
		db, err := sql.Open(driverName, dsn)
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	r.db = open(d.name) // a connection only if it is used
	defer r.db.Close()
	db := open(driverName)
	defer db.Close() // with what the session has
	r.conn = db
	if db.SetMaxOpenConns(1); !r.pooled {
		conn, err := db.Conn(r.ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		r.conn = conn
	}
	if strings.Contains(strings.Join(scene.script, ""), "{role}") {
		r.role = makeRole(&r)
		defer r.db.ExecContext(r.ctx, "DROP ROLE "+r.role)
	}
	for _, step := range scene.script {
		r.step(strings.ReplaceAll(step, "{role}", r.role), scene.texts)
	}
	for _, stmt := range r.stmts {
		stmt.Close()
	}
	if r.tx != nil {
		r.tx.Rollback() // or Close waits for it
	}
	return r
}

// makeRole makes a role and returns its name. Roles are those of all databases of the server, and the schema of that
// name has a table.
func makeRole(r *keptRun) (name string) {
	if err := r.db.QueryRowContext(r.ctx, "SELECT 'role_' || current_database()").Scan(&name); err != nil {
		r.Fatal(err)
	}
	if _, err := r.db.ExecContext(r.ctx, "CREATE ROLE "+name+" SUPERUSER"); err != nil {
		r.Fatal(err)
	}
	return name
}

func (r *keptRun) step(step string, texts []string) {
	var err error
	switch {
	case step == use:
		r.useAll(texts)
	case step == begin:
		r.tx, err = r.conn.BeginTx(r.ctx, nil)
	case step == commit:
		err = r.tx.Commit()
	case step == rollback:
		err = r.tx.Rollback()
	case strings.HasPrefix(step, raw):
		err = r.raw(strings.TrimPrefix(step, raw))
	case strings.HasPrefix(step, others):
		_, err = r.db.ExecContext(r.ctx, strings.TrimPrefix(step, others))
	default:
		_, err = r.on().ExecContext(r.ctx, step)
	}
	if step == commit || step == rollback {
		r.tx = nil
	}
	if err != nil {
		r.failed = true
		r.lines = append(r.lines, step+": "+err.Error())
	}
}

type preparer interface {
	querier
	PrepareContext(context.Context, string) (*sql.Stmt, error)
}

func (r *keptRun) on() preparer {
	if r.tx != nil {
		return r.tx
	}
	return r.conn
}

// raw sends a statement by the inner driver.
func (r *keptRun) raw(statement string) error {
	return r.conn.(*sql.Conn).Raw(func(dc any) error {
		if ours, ok := dc.(interface{ Raw(func(any) error) error }); ok {
			return ours.Raw(func(inner any) error { return execOn(r.ctx, inner, statement) })
		}
		return execOn(r.ctx, dc, statement)
	})
}

func execOn(ctx context.Context, inner any, statement string) error {
	_, err := inner.(driver.ExecerContext).ExecContext(ctx, statement, nil)
	return err
}

func (r *keptRun) useAll(texts []string) {
	r.Helper()
	for _, text := range texts {
		for range times {
			r.lines = append(r.lines, text+": "+r.use(text))
		}
	}
}

func (r *keptRun) use(text string) string {
	args := make([]any, strings.Count(text, "?"))
	for i := range args {
		args[i] = 1
	}
	on, query := querier(r.on()), text
	if r.d.engine == postgresEngine {
		query = strings.ReplaceAll(text, "?", "$1::int")
	}
	stmt, err := r.prepare(text, query)
	switch {
	case err != nil:
		return err.Error()
	case stmt != nil:
		if r.prepares {
			defer stmt.Close()
		}
		on = prepared{stmt}
	}
	rows, err := on.QueryContext(r.ctx, query, args...)
	if err != nil {
		return err.Error()
	}
	defer rows.Close()
	return allOf(rows)
}

// prepare returns a statement, if the run uses one.
func (r *keptRun) prepare(text, query string) (stmt *sql.Stmt, err error) {
	switch {
	case r.prepares:
		return r.on().PrepareContext(r.ctx, query)
	case r.frozen && r.stmts[text] == nil:
		if stmt, err = r.conn.PrepareContext(r.ctx, query); err == nil {
			r.stmts[text] = stmt
		}
		return stmt, err
	}
	return r.stmts[text], nil
}

// allOf returns names, types and values of all rows.
func allOf(rows *sql.Rows) string {
	var b strings.Builder
	types, _ := rows.ColumnTypes()
	values, dests := make([]any, len(types)), make([]any, len(types))
	for i, t := range types {
		fmt.Fprintf(&b, "%s %s ", t.Name(), t.DatabaseTypeName())
		dests[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(dests...); err != nil {
			return err.Error()
		}
		for i, v := range values {
			if bytes, ok := v.([]byte); ok {
				values[i] = string(bytes)
			}
		}
		fmt.Fprintf(&b, "%v", values)
	}
	if err := rows.Err(); err != nil {
		fmt.Fprintf(&b, " %v", err)
	}
	return b.String()
}
