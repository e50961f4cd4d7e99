package dblocker_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/fakedriver"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// The differential test plays scenarios, which are in scenarios_test.go, on a
// fake driver: once with the bare driver and once through dblocker, with and
// without a user. Results and errors must be the same, to their identity, and so
// must be the calls that the fake driver gets. It does so for every subset of the
// optional interfaces, and on some for every fault of every call.

// A difference is one that is allowed between the calls of the bare driver and
// ours. It leaves out of both what it is about.
type difference struct {
	reason string
	calls  []string // prefixes of the calls
}

var (
	// allowedEverywhere are the differences that every Exec makes.
	allowedEverywhere = difference{
		"the values of a Result are read right after Exec, while the connection is ours, and both at once",
		[]string{"result."},
	}
	// preparedAgain is for statements prepared on the sql.DB.
	preparedAgain = difference{
		"inner statements belong to server connections: what is prepared on the sql.DB is prepared again on the connection that an execution draws, and closed when it goes back",
		[]string{"conn.Prepare", "stmt.Close"},
	}
	// refusedEarly is for arguments with names that are none.
	refusedEarly = difference{
		"database/sql itself refuses such a name before it asks us to execute anything, and so before a server connection is drawn",
		[]string{""},
	}
)

// A mode is a way to open a handle on a fake driver.
type mode struct {
	name string
	open func(*fakedriver.Server) (*sql.DB, error)
	user any // nil for none
}

var bare = mode{"bare", func(s *fakedriver.Server) (*sql.DB, error) {
	db := sql.OpenDB(s.Connector())
	db.SetMaxIdleConns(16) // dblocker's default
	return db, nil
}, nil}

var wrapped = []mode{
	{"untagged", openWrapped, nil},
	{"with a user", openWrapped, "ann"},
}

func openWrapped(s *fakedriver.Server) (*sql.DB, error) { return dblocker.OpenDB(s.Connector()) }

// A play is one run of a scenario.
type play struct {
	db     *sql.DB
	server *fakedriver.Server
	ctx    context.Context
	cancel context.CancelFunc
	notes  []string // what the scenario saw
}

// A faultAt is a fault that may need the play, to end its context.
type faultAt func(*play) fakedriver.Fault

// perform plays a scenario in one mode. It must be called in a synctest bubble.
func perform(t *testing.T, m mode, shape fakedriver.Shape, s scenario, faults ...faultAt) *play {
	t.Helper()
	p := new(play)
	ctx := fakedriver.Mark(t.Context(), "op")
	if m.user != nil {
		ctx = dblocker.WithUser(ctx, m.user)
	}
	p.ctx, p.cancel = context.WithCancel(ctx)
	defer p.cancel()
	var fs []fakedriver.Fault
	for _, f := range faults {
		fs = append(fs, f(p))
	}
	p.server = fakedriver.NewServer(shape, fs...)
	var err error
	if p.db, err = m.open(p.server); err != nil {
		t.Fatal(err)
	}
	s.run(p)
	p.step("end", func() error { return p.db.Close() })
	return p
}

// calls returns the calls that the fake driver got, but for those that may differ.
func (p *play) calls(allowed ...difference) []string {
	return slices.DeleteFunc(p.server.Calls(), func(call string) bool {
		return slices.ContainsFunc(append(allowed, allowedEverywhere), func(d difference) bool {
			return slices.ContainsFunc(d.calls, func(prefix string) bool { return strings.HasPrefix(call, prefix) })
		})
	})
}

// compare plays a scenario bare and through dblocker, and returns what differs.
func compare(t *testing.T, shape fakedriver.Shape, s scenario, faults ...faultAt) (differences []string) {
	t.Helper()
	want := perform(t, bare, shape, s, faults...)
	for _, m := range wrapped {
		if m.user != nil && s.tagged != "" {
			continue
		}
		got := perform(t, m, shape, s, faults...)
		for _, d := range []string{
			diff("the program sees", want.notes, got.notes),
			diff("the inner calls are", want.calls(s.allowed...), got.calls(s.allowed...)),
		} {
			if d != "" {
				differences = append(differences, fmt.Sprintf("%s, %s, %s: %s", s.name, m.name, describeShape(shape), d))
			}
		}
	}
	return differences
}

func describeShape(s fakedriver.Shape) string {
	return fmt.Sprintf("shape %010b/%04b/%07b/%t", s.Conn, s.Stmt, s.Rows, s.Closer)
}

// diff shows where two lists begin to differ. It returns "" if they do not.
func diff(what string, want, got []string) string {
	if slices.Equal(want, got) {
		return ""
	}
	i := 0
	for i < len(want) && i < len(got) && want[i] == got[i] {
		i++
	}
	from := max(0, i-2)
	return fmt.Sprintf("%s, from line %d\nbare:\n\t%s\nthrough dblocker:\n\t%s", what, from,
		strings.Join(want[from:min(len(want), i+6)], "\n\t"), strings.Join(got[from:min(len(got), i+6)], "\n\t"))
}

// step does one thing on the handle, lets what it set off in other goroutines
// come to its end, and notes the error or panic.
func (p *play) step(name string, f func() error) (ok bool) {
	defer synctest.Wait()
	defer func() {
		if e := recover(); e != nil {
			p.note("%s: panic: %v", name, e)
		}
	}()
	err := f()
	synctest.Wait()
	p.note("%s: %s", name, describeError(err))
	return err == nil
}

func (p *play) note(format string, args ...any) {
	p.notes = append(p.notes, fmt.Sprintf(format, args...))
}

var (
	errFault   = errors.New("the fault")
	errWrapped = fmt.Errorf("wrapped: %w", driver.ErrBadConn)
	errValue   = errors.New("no value")
)

// describeError tells as much of an error as a program can find out.
func describeError(err error) string {
	if err == nil {
		return "ok"
	}
	d := fmt.Sprintf("%T %q", err, err.Error())
	for _, known := range []error{
		errFault, errWrapped, errValue, io.EOF, context.Canceled,
		driver.ErrBadConn, driver.ErrSkip, driver.ErrRemoveArgument, sql.ErrTxDone, sql.ErrConnDone, sql.ErrNoRows,
	} {
		if err == known {
			d += fmt.Sprintf(" == %v", known)
		} else if errors.Is(err, known) {
			d += fmt.Sprintf(" is %v", known)
		}
	}
	return d
}

// TestEveryConnSubset plays all scenarios on connections with each subset of the
// optional interfaces.
func TestEveryConnSubset(t *testing.T) {
	t.Parallel()
	conns, _, _ := fakedriver.Shapes()
	for conn := 0; conn < conns; conn += stride() {
		shape := fakedriver.Full()
		shape.Conn = conn
		shape.Closer = conn&1 == 0
		playAll(t, shape)
	}
}

// namesTaken makes names unique: what is registered is so for ever.
var namesTaken atomic.Int64

// TestEveryWayToOpen opens drivers by name, with connectors of their own and
// without.
func TestEveryWayToOpen(t *testing.T) {
	for name, driverOf := range map[string]func(*fakedriver.Server) driver.Driver{
		"fake-driver": func(s *fakedriver.Server) driver.Driver { return fakedriver.Driver{Server: s} },
		"fake-driver-context": func(s *fakedriver.Server) driver.Driver {
			return fakedriver.ContextDriver{Driver: fakedriver.Driver{Server: s}}
		},
	} {
		open := func(register func(string, driver.Driver) error) func(*fakedriver.Server) (*sql.DB, error) {
			return func(s *fakedriver.Server) (*sql.DB, error) {
				unique := fmt.Sprintf("%s-%d", name, namesTaken.Add(1))
				if err := register(unique, driverOf(s)); err != nil {
					return nil, err
				}
				return sql.Open(unique, "some dsn")
			}
		}
		plain := func(name string, d driver.Driver) error { sql.Register(name, d); return nil }
		wrap := func(name string, d driver.Driver) error { return dblocker.Register(name, d) }
		synctest.Test(t, func(t *testing.T) {
			for _, s := range scenarios[:2] {
				want := perform(t, mode{open: open(plain)}, fakedriver.Full(), s)
				got := perform(t, mode{open: open(wrap)}, fakedriver.Full(), s)
				if d := diff(name+": the program sees", want.notes, got.notes); d != "" {
					t.Error(d)
				}
				if d := diff(name+": the inner calls are", want.calls(), got.calls()); d != "" {
					t.Error(d)
				}
			}
		})
	}
}

// stride is how far to go from one subset to the next: the race detector, which
// finds little where one goroutine plays, is shown a few of them.
func stride() int {
	if testdb.UnderRace() {
		return 11
	}
	return 1
}

// TestEveryStmtSubset does the same for statements, beside connections that
// execute nothing without one.
func TestEveryStmtSubset(t *testing.T) {
	t.Parallel()
	_, stmts, _ := fakedriver.Shapes()
	for stmt := range stmts {
		for _, conn := range []int{0, fakedriver.ConnChecker, fakedriver.ExecerContext | fakedriver.Queryer} {
			playAll(t, fakedriver.Shape{Conn: conn, Stmt: stmt})
		}
	}
}

// TestEveryRowsSubset does the same for rows.
func TestEveryRowsSubset(t *testing.T) {
	t.Parallel()
	_, _, rows := fakedriver.Shapes()
	for rows := range rows {
		shape := fakedriver.Full()
		shape.Rows = rows
		playAll(t, shape)
	}
}

// argumentsDependOn are the interfaces that have a part in arguments. The
// scenarios with long lists of those are played on each subset of these.
const argumentsDependOn = fakedriver.ExecerContext | fakedriver.Execer | fakedriver.QueryerContext | fakedriver.Queryer |
	fakedriver.ConnPrepareContext | fakedriver.ConnChecker

func playAll(t *testing.T, shape fakedriver.Shape) {
	if t.Failed() {
		return // one report is enough
	}
	synctest.Test(t, func(t *testing.T) {
		for _, s := range scenarios {
			if s.arguments && shape.Conn&^argumentsDependOn != 0 {
				continue
			}
			for _, d := range compare(t, shape, s) {
				t.Error(d)
			}
		}
	})
}

// typicalShapes are those on which all faults are tried.
var typicalShapes = []fakedriver.Shape{
	{},
	fakedriver.Full(),
	{Conn: fakedriver.Execer | fakedriver.Queryer},
	{Conn: fakedriver.ExecerContext | fakedriver.QueryerContext | fakedriver.ConnPrepareContext | fakedriver.ConnBeginTx, Stmt: fakedriver.StmtExecContext | fakedriver.StmtQueryContext},
	{Conn: fakedriver.SessionResetter | fakedriver.ConnChecker, Stmt: fakedriver.ColumnConverter},
	{Conn: fakedriver.Validator | fakedriver.ConnBeginTx, Stmt: fakedriver.StmtChecker},
}

// faultKinds are what can go wrong in a call.
var faultKinds = []struct {
	name string
	make func(p *play, f *fakedriver.Fault)
}{
	{"error", func(_ *play, f *fakedriver.Fault) { f.Err = errFault }},
	{"bad connection", func(_ *play, f *fakedriver.Fault) { f.Err = driver.ErrBadConn }},
	{"wrapped bad connection", func(_ *play, f *fakedriver.Fault) { f.Err = errWrapped }},
	{"cancel", func(p *play, f *fakedriver.Fault) { f.Do = p.cancel }},
	{"canceled", func(p *play, f *fakedriver.Fault) { f.Do, f.Err = p.cancel, context.Canceled }},
	{"panic", func(p *play, f *fakedriver.Fault) { f.Do = func() { panic("the driver's panic") } }},
}

// TestEveryFault plays all scenarios on some shapes, with each fault in each method
// that they call: in its first, second, last and every call.
func TestEveryFault(t *testing.T) {
	for i, shape := range typicalShapes {
		if i%2 == 1 && testdb.UnderRace() {
			continue // see stride
		}
		t.Run(describeShape(shape), func(t *testing.T) {
			t.Parallel()
			for _, s := range scenarios {
				if s.arguments {
					continue
				}
				for _, kind := range faultKinds {
					faultsOf(t, shape, s, kind.name, kind.make)
				}
			}
		})
	}
}

func faultsOf(t *testing.T, shape fakedriver.Shape, s scenario, kind string, make func(*play, *fakedriver.Fault)) {
	bad := strings.Contains(kind, "bad connection")
	switch {
	case bad:
		s.allowed = append(slices.Clone(s.allowed), closedFirst)
	case kind == "panic":
		s.allowed = []difference{discarded}
	}
	var differences []string
	synctest.Test(t, func(t *testing.T) {
		for method, n := range perform(t, bare, shape, s).server.Counts() {
			if faultDiffers(s, kind, method) {
				continue
			}
			for _, nth := range slices.Compact([]int{0, 1, min(2, n), n}) { // 0 is all
				s := s
				if bad && nth == 0 {
					s.allowed = []difference{moreTries}
				}
				fault := func(p *play) fakedriver.Fault {
					f := fakedriver.Fault{Method: method, Nth: nth}
					make(p, &f)
					return f
				}
				found := compare(t, shape, s, fault)
				// What the end of a context sets off runs beside the program, and it is chance which
				// of them closes what first: so a difference must be there each time.
				for tries := 1; len(found) > 0 && strings.HasPrefix(kind, "cancel") && tries < 5; tries++ {
					found = compare(t, shape, s, fault)
				}
				for _, d := range found {
					differences = append(differences, fmt.Sprintf("%s in call %d of %s: %s", kind, nth, method, d))
				}
			}
		}
	})
	for _, d := range differences {
		t.Error(d)
	}
}

var (
	// closedFirst is for connections that turn out bad.
	closedFirst = difference{
		"inner statements are closed before their connection, where database/sql closes them after it or, when a Commit found it bad, not at all",
		[]string{"stmt.Close"},
	}
	// discarded is for connections whose driver panicked.
	discarded = difference{
		"after a panic the server connection is discarded, where database/sql, in these methods, uses it again",
		[]string{""},
	}
	// moreTries is for connections that are all bad.
	moreTries = difference{
		"a server connection that turns out stale is replaced as often as there may be idle ones, database/sql's three tries apart",
		[]string{""},
	}
)

// faultDifferences are the faults that need not come out the same.
var faultDifferences = []struct {
	reason  string
	applies func(s scenario, kind, method string) bool
}{
	{
		"a call ends with its context while the driver is in Connect, and what that opens late is closed; on the bare driver it waits for Connect to return",
		func(_ scenario, kind, method string) bool {
			return strings.HasPrefix(kind, "cancel") && method == "connector.Connect"
		},
	},
	{
		"after a panic in most methods database/sql itself hangs, on locks that it does not release",
		func(s scenario, kind, method string) bool {
			ends := strings.HasSuffix(method, ".ExecContext") || strings.HasSuffix(method, ".Exec") ||
				strings.HasSuffix(method, ".QueryContext") || strings.HasSuffix(method, ".Query")
			return kind == "panic" && !(ends && s.name == "plain statements")
		},
	},
	{
		"rows whose context has ended are closed by another goroutine, while these scenarios go on on their own",
		func(s scenario, kind, _ string) bool {
			return strings.HasPrefix(kind, "cancel") && (s.name == "a single row" || s.name == "two connections")
		},
	},
	{
		"no server connection is drawn where database/sql refuses arguments by itself",
		func(s scenario, _, _ string) bool { return slices.ContainsFunc(s.allowed, refusedEarly.same) },
	},
	{
		"what is prepared again can fail then, and what is closed early cannot fail later",
		func(s scenario, _, method string) bool {
			return slices.ContainsFunc(s.allowed, preparedAgain.same) &&
				(slices.ContainsFunc(preparedAgain.calls, func(p string) bool { return strings.HasPrefix(method, p) }) || sessionStart(method))
		},
	},
	{
		"a sql.Conn gets its server connection with its first operation, which then finds out what db.Conn would have",
		func(s scenario, _, method string) bool { return s.pins && sessionStart(method) },
	},
	{
		"until that first operation has succeeded, a sql.Conn survives a bad connection",
		func(s scenario, kind, _ string) bool { return s.pins && strings.Contains(kind, "bad connection") },
	},
	{
		"on a sql.Conn database/sql does not look whether a context has ended, but nobody gets a user's lock with such a context; " +
			"and a sql.Conn whose transaction was rolled back by its context is closed only if the driver has no SessionResetter or no Validator",
		func(s scenario, kind, _ string) bool { return s.pins && strings.HasPrefix(kind, "cancel") },
	},
}

// sessionStart tells whether a method is one that database/sql calls before it
// gives a connection out.
func sessionStart(method string) bool {
	return method == "connector.Connect" || method == "conn.ResetSession"
}

func (d difference) same(o difference) bool { return d.reason == o.reason }

func faultDiffers(s scenario, kind, method string) bool {
	for _, d := range faultDifferences {
		if d.applies(s, kind, method) {
			return true
		}
	}
	return false
}
