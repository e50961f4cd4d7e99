package dblockerotel_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/XSAM/otelsql"
	"github.com/jmoiron/sqlx"
	"github.com/mattn/go-sqlite3"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/calmdocs/dblocker"
	dblockerotel "github.com/calmdocs/dblocker/otel"
)

// A scene has what a handle tells.
type scene struct {
	*dblockerotel.Telemetry
	t       *testing.T
	reader  *sdkmetric.ManualReader
	spans   *tracetest.SpanRecorder
	tracers *sdktrace.TracerProvider
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{t: t, reader: sdkmetric.NewManualReader(), spans: tracetest.NewSpanRecorder()}
	s.tracers = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(s.spans))
	var err error
	s.Telemetry, err = dblockerotel.New(dblockerotel.MeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(s.reader))), dblockerotel.TracerProvider(s.tracers),
		dblockerotel.System("sqlite"), dblockerotel.Namespace("app"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var names atomic.Int64

// open opens a file through a driver of a name that is registered for it.
func (s *scene) open(register func(name string) (string, error)) *sql.DB {
	s.t.Helper()
	name, err := register(fmt.Sprintf("otel-%d", names.Add(1)))
	if err != nil {
		s.t.Fatal(err)
	}
	db, err := sql.Open(name, "file:"+filepath.Join(s.t.TempDir(), "app.db"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { db.Close() })
	return db
}

func (s *scene) plain() *sql.DB {
	return s.open(func(name string) (string, error) {
		return name, dblocker.Register(name, &sqlite3.SQLiteDriver{}, s.Observe())
	})
}

// use has one request wait for the other, both with spans.
func (s *scene) use(db *sql.DB) (holder, waiter trace.Span) {
	s.t.Helper()
	tracer := s.tracers.Tracer("test")
	ctx, holder := tracer.Start(context.Background(), "holder")
	ctx = dblocker.WithUser(ctx, "secret-user")
	if _, err := db.ExecContext(ctx, "CREATE TABLE t (v INT)"); err != nil {
		s.t.Fatal(err)
	}
	_, unlock, err := dblocker.Lock(ctx, db, dblocker.Tag("export"))
	if err != nil {
		s.t.Fatal(err)
	}
	request, waiter := tracer.Start(context.Background(), "waiter")
	request = dblocker.WithUser(request, "secret-user")
	done := make(chan error)
	go func() {
		_, err := db.ExecContext(request, "INSERT INTO t VALUES (1)")
		done <- err
	}()
	s.await(func() bool { st, err := dblocker.Stats(db); return err == nil && st.Waiting == 1 })
	unlock()
	if err := <-done; err != nil {
		s.t.Fatal(err)
	}
	return holder, waiter
}

func (s *scene) await(is func() bool) {
	s.t.Helper()
	for until := time.Now().Add(30 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			s.t.Fatal("waited 30 seconds in vain")
		}
	}
}

// metrics returns what is collected, by name, as JSON.
func (s *scene) metrics() map[string]string {
	s.t.Helper()
	var rm metricdata.ResourceMetrics
	if err := s.reader.Collect(context.Background(), &rm); err != nil {
		s.t.Fatal(err)
	}
	found := make(map[string]string)
	for _, sm := range rm.ScopeMetrics {
		for _, m := range sm.Metrics {
			text, err := json.Marshal(m)
			if err != nil {
				s.t.Fatal(err)
			}
			found[m.Name] = string(text)
		}
	}
	return found
}

// wait returns the span of the wait, when there is one.
func (s *scene) wait() (span sdktrace.ReadOnlySpan) {
	s.t.Helper()
	s.await(func() bool {
		for _, ended := range s.spans.Ended() {
			if strings.HasPrefix(ended.Name(), "dblocker wait") {
				span = ended
			}
		}
		return span != nil
	})
	return span
}

// TestMetrics have the names and attributes of the conventions, and no user.
func TestMetrics(t *testing.T) {
	s := newScene(t)
	db := s.plain()
	unregister, err := s.Register(db)
	if err != nil {
		t.Fatal(err)
	}
	s.use(db)
	s.wait()
	s.await(func() bool { return strings.Contains(s.metrics()["db.client.operation.duration"], "INSERT") })
	got := s.metrics()
	for name, wants := range map[string][]string{
		"db.client.operation.duration":     {`"db.system.name"`, `"sqlite"`, `"db.namespace"`, `"db.operation.name"`, `"CREATE"`},
		"db.client.connection.count":       {`"db.client.connection.pool.name"`, `"/app"`, `"used"`, `"idle"`},
		"db.client.connection.create_time": {`"db.client.connection.pool.name"`},
		"dblocker.lock.wait_time":          {`"exclusive"`, `"granted"`, `"lock"`},
		"dblocker.lock.hold_time":          {`"section"`},
		"dblocker.lock.count":              {`"held"`, `"waiting"`},
		"dblocker.statement.lookups":       {`"dblocker.statement.found"`},
		"dblocker.statement.kept":          {`"db.system.name"`},
	} {
		for _, want := range wants {
			if !strings.Contains(got[name], want) {
				t.Errorf("%s has no %s: %s", name, want, got[name])
			}
		}
	}
	for name, m := range got {
		if strings.Contains(m, "secret-user") {
			t.Errorf("%s has the user: %s", name, m)
		}
	}
	if err := unregister(); err != nil {
		t.Error(err)
	}
}

// TestScope: the instrumentation says which it is, and a system that is not said has a name.
func TestScope(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	s, err := dblockerotel.New(dblockerotel.MeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))), dblockerotel.System(""))
	if err != nil {
		t.Fatal(err)
	}
	db, err := dblocker.Openx("sqlite3", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := s.Register(db); err != nil {
		t.Fatal(err)
	}
	var rm metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &rm); err != nil {
		t.Fatal(err)
	}
	for _, sm := range rm.ScopeMetrics {
		if sm.Scope.Version == "" || sm.Scope.SchemaURL != "https://opentelemetry.io/schemas/1.45.0" {
			t.Errorf("the scope is %+v", sm.Scope)
		}
		if text, err := json.Marshal(sm.Metrics); err != nil || !strings.Contains(string(text), `"other_sql"`) {
			t.Errorf("no other_sql in %s (%v)", text, err)
		}
	}
	if len(rm.ScopeMetrics) != 1 {
		t.Errorf("got %d scopes", len(rm.ScopeMetrics))
	}
}

// TestConnectionTimes: who waits for a connection is measured, and how long each is used.
func TestConnectionTimes(t *testing.T) {
	s := newScene(t)
	s.connectionWait(s.Observe(), dblocker.MaxIdleConns(3))
	s.await(func() bool { return s.metrics()["db.client.connection.use_time"] != "" })
	got := s.metrics()
	for name, want := range map[string]string{"wait_time": `"Count":1,`, "idle.max": `"Value":3}`, "limit": `"Value":1}`} {
		if got := got["db.client.connection."+name]; !strings.Contains(got, want) || !strings.Contains(got, "pool.name") {
			t.Errorf("%s has no %s: %s", name, want, got)
		}
	}
}

// connectionWait has one user wait for the only connection of a handle with the options, which another has, each with a database of its own.
func (s *scene) connectionWait(opts ...dblocker.Option) {
	s.t.Helper()
	db, err := dblocker.Openx("sqlite3", filepath.Join(s.t.TempDir(), "{user}.db"), append(opts, dblocker.MaxOpenConns(1))...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { db.Close() })
	if _, err := s.Register(db); err != nil {
		s.t.Fatal(err)
	}
	tx, err := db.BeginTx(dblocker.WithUser(context.Background(), "a"), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := tx.Exec("CREATE TABLE a (v INT)"); err != nil {
		s.t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, err := db.ExecContext(dblocker.WithUser(context.Background(), "b"), "CREATE TABLE b (v INT)")
		done <- err
	}()
	s.await(func() bool {
		return strings.Contains(s.metrics()["db.client.connection.pending_requests"], `"Value":1}`)
	})
	if err := errors.Join(tx.Commit(), <-done); err != nil {
		s.t.Error(err)
	}
}

// TestErrors: an operation that failed has what the database calls that.
func TestErrors(t *testing.T) {
	s := newScene(t)
	db := s.plain()
	ctx := dblocker.WithUser(context.Background(), 1)
	for _, query := range []string{"CREATE TABLE t (v INT UNIQUE)", "INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (1)", "DELETE FROM none"} {
		db.ExecContext(ctx, query)
	}
	has := func(key, value string) string {
		return fmt.Sprintf(`{"Key":%q,"Value":{"Type":"STRING","Value":%q}}`, key, value)
	}
	s.await(func() bool { return strings.Contains(s.metrics()["db.client.operation.duration"], "DELETE") })
	got := s.metrics()["db.client.operation.duration"]
	for _, code := range []string{"2067", "1"} { // SQLITE_CONSTRAINT_UNIQUE, SQLITE_ERROR
		for _, key := range []string{"db.response.status_code", "error.type"} {
			if want := has(key, code); !strings.Contains(got, want) {
				t.Errorf("no %s in %s", want, got)
			}
		}
	}
}

// TestSpans: a wait is a child of the request's span, with a link to that of the holder.
func TestSpans(t *testing.T) {
	s := newScene(t)
	holder, waiter := s.use(s.plain())
	s.check(holder, waiter)
}

func (s *scene) check(holder, waiter trace.Span) {
	s.t.Helper()
	span := s.wait()
	if span.Parent().SpanID() != waiter.SpanContext().SpanID() {
		// with otelsql around dblocker, its own span is between
		between := false
		waiter.End()
		for _, ended := range s.spans.Ended() {
			between = between || ended.SpanContext().SpanID() == span.Parent().SpanID() && ended.Parent().SpanID() == waiter.SpanContext().SpanID()
		}
		if !between {
			s.t.Errorf("the span of the wait is a child of %v, want %v", span.Parent().SpanID(), waiter.SpanContext().SpanID())
		}
	}
	links := span.Links()
	if len(links) != 1 || links[0].SpanContext.TraceID() != holder.SpanContext().TraceID() {
		s.t.Errorf("the links are %v, want one to the holder's", links)
	}
	if took := span.EndTime().Sub(span.StartTime()); took <= 0 {
		s.t.Errorf("the wait took %v", took)
	}
}

// TestBesideOtelsql: it may be outside of dblocker, or inside.
func TestBesideOtelsql(t *testing.T) {
	t.Run("inside", func(t *testing.T) {
		s := newScene(t)
		db := s.open(func(name string) (string, error) {
			traced := otelsql.WrapDriver(&sqlite3.SQLiteDriver{}, otelsql.WithTracerProvider(s.tracers))
			return name, dblocker.Register(name, traced, dblocker.Dialect("sqlite"), s.Observe())
		})
		holder, waiter := s.use(db)
		s.check(holder, waiter)
	})
	t.Run("outside", func(t *testing.T) {
		s := newScene(t)
		db := s.open(func(name string) (string, error) {
			if err := dblocker.Register(name, &sqlite3.SQLiteDriver{}, s.Observe()); err != nil {
				return "", err
			}
			return otelsql.Register(name, otelsql.WithTracerProvider(s.tracers))
		})
		holder, waiter := s.use(db)
		s.check(holder, waiter)
	})
}

// TestNil: what is nil, or not of dblocker, is refused where it is passed.
func TestNil(t *testing.T) {
	for name, opt := range map[string]dblockerotel.Option{
		"option":                 nil,
		"MeterProvider":          dblockerotel.MeterProvider(nil),
		"TracerProvider":         dblockerotel.TracerProvider(nil),
		"MeterProvider of type":  dblockerotel.MeterProvider((*sdkmetric.MeterProvider)(nil)),
		"TracerProvider of type": dblockerotel.TracerProvider((*sdktrace.TracerProvider)(nil)),
	} {
		if _, err := dblockerotel.New(opt); err == nil || !strings.Contains(err.Error(), "is nil") {
			t.Errorf("%s: %v", name, err)
		}
	}
	telemetry, err := dblockerotel.New()
	if err != nil {
		t.Fatal(err)
	}
	bare := sql.OpenDB(bareConnector{})
	defer bare.Close()
	for _, c := range []struct {
		db   dblocker.Handle
		want string
	}{
		{nil, "is nil"}, {(*sql.DB)(nil), "is nil"}, {(*sqlx.DB)(nil), "is nil"}, {&sqlx.DB{}, "is nil"},
		{bare, "not opened through dblocker"}, {sqlx.NewDb(bare, "sqlite3"), "not opened through dblocker"},
	} {
		if _, err := telemetry.Register(c.db); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%T: %v, want %s", c.db, err, c.want)
		}
	}
}

// TestRegisterOpensNothing: a handle whose database cannot be opened yet is taken.
func TestRegisterOpensNothing(t *testing.T) {
	telemetry, err := dblockerotel.New()
	if err != nil {
		t.Fatal(err)
	}
	db, err := dblocker.Openx("sqlite3", filepath.Join(t.TempDir(), "none", "app.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, handle := range []dblocker.Handle{db, db.DB} {
		unregister, err := telemetry.Register(handle)
		if err != nil {
			t.Fatalf("%T: %v", handle, err)
		}
		if err := unregister(); err != nil {
			t.Error(err)
		}
	}
}

// TestTwice: nothing is counted twice that is given twice.
func TestTwice(t *testing.T) {
	s := newScene(t)
	db := s.open(func(name string) (string, error) {
		return name, dblocker.Register(name, &sqlite3.SQLiteDriver{}, s.Observe(), s.Observe())
	})
	unregister, err := s.Register(db)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Register(sqlx.NewDb(db, "sqlite3")); err == nil || !strings.Contains(err.Error(), "has a handle already") {
		t.Errorf("the second Register: %v", err)
	}
	if _, err := db.Exec("CREATE TABLE t (v INT)"); err != nil {
		t.Fatal(err)
	}
	s.await(func() bool { return s.metrics()["db.client.operation.duration"] != "" })
	if got := s.metrics()["db.client.operation.duration"]; !strings.Contains(got, `"Count":1,`) {
		t.Errorf("one statement is counted as %s", got)
	}
	if err := unregister(); err != nil {
		t.Error(err)
	}
	if _, err := s.Register(db); err != nil {
		t.Errorf("Register after unregister: %v", err)
	}
	if err := unregister(); err != nil || s.metrics()["db.client.connection.count"] == "" {
		t.Errorf("unregister, called again, has ended what came after it: %v", err)
	}
}

// TestCountsNeedNoEvents: what is counted now does not come from events, some of which may be dropped.
func TestCountsNeedNoEvents(t *testing.T) {
	s := newScene(t)
	s.connectionWait()
	for name, want := range map[string]string{"db.client.connection.pending_requests": `"Value":0}`, "dblocker.database.open": `"Value":2}`} {
		if got := s.metrics()[name]; !strings.Contains(got, want) {
			t.Errorf("%s has no %s: %s", name, want, got)
		}
	}
}

type bareConnector struct{}

func (bareConnector) Connect(context.Context) (driver.Conn, error) {
	return (&sqlite3.SQLiteDriver{}).Open(":memory:")
}

func (bareConnector) Driver() driver.Driver { return &sqlite3.SQLiteDriver{} }
