// Package dblockerotel has metrics and spans of OpenTelemetry for a handle that was opened through dblocker.
//
//	telemetry, err := dblockerotel.New(dblockerotel.System("postgresql"), dblockerotel.Namespace("app"))
//	if err != nil {
//		return err
//	}
//	db, err := dblocker.OpenDB(connector, telemetry.Observe())
//	if err != nil {
//		return err
//	}
//	unregister, err := telemetry.Register(db)
//
// Operations are measured at the server, without the waits before them. A call that had to wait, and whose context has a span that is recorded, gets a
// span for the wait, with a link to the span of who was in the way. A user is never an attribute of a metric, and one of a span only with [UserOnSpans].
package dblockerotel

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"

	"github.com/jmoiron/sqlx"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/calmdocs/dblocker"
)

const scope = "github.com/calmdocs/dblocker/otel"

// A Telemetry is what one handle tells.
type Telemetry struct {
	tracer  trace.Tracer
	meter   metric.Meter
	users   bool
	db      []attribute.KeyValue // of operations
	pool    []attribute.KeyValue // of connections
	poolSet metric.MeasurementOption

	instruments
}

type config struct {
	meters                  metric.MeterProvider
	tracers                 trace.TracerProvider
	system, namespace, name string
	address                 string
	port                    int
	users                   bool
}

// An Option says something of a Telemetry.
type Option func(*config)

// MeterProvider is for other metrics than those of the global provider.
func MeterProvider(p metric.MeterProvider) Option { return func(c *config) { c.meters = p } }

// TracerProvider is for other spans than those of the global provider.
func TracerProvider(p trace.TracerProvider) Option { return func(c *config) { c.tracers = p } }

// System is the db.system.name: postgresql, mysql, mariadb or sqlite. It is other_sql if it is not said.
func System(name string) Option { return func(c *config) { c.system = name } }

// Namespace is the db.namespace: the name of the database.
func Namespace(name string) Option { return func(c *config) { c.namespace = name } }

// Server is where the server is.
func Server(address string, port int) Option {
	return func(c *config) { c.address, c.port = address, port }
}

// PoolName is the db.client.connection.pool.name, which is made of server and namespace if it is not said.
func PoolName(name string) Option { return func(c *config) { c.name = name } }

// UserOnSpans puts the user on the spans of waits, as dblocker.user.
func UserOnSpans() Option { return func(c *config) { c.users = true } }

// New returns one for a handle.
func New(opts ...Option) (*Telemetry, error) {
	c := config{meters: otel.GetMeterProvider(), tracers: otel.GetTracerProvider(), system: "other_sql"}
	for _, opt := range opts {
		if opt == nil {
			return nil, errors.New("dblockerotel: New: an option is nil; leave it out")
		}
		opt(&c)
	}
	if isNil(c.meters) || isNil(c.tracers) {
		return nil, errors.New("dblockerotel: New: a provider is nil; leave its option out to use the global one")
	}
	t := &Telemetry{tracer: c.tracers.Tracer(scope), meter: c.meters.Meter(scope), users: c.users, db: c.attributes()}
	t.pool = append(c.attributes(), poolName.String(c.poolName()))
	t.poolSet = metric.WithAttributes(t.pool...)
	return t, t.instruments.make(t.meter)
}

func (c *config) attributes() []attribute.KeyValue {
	attrs := []attribute.KeyValue{systemName.String(c.system)}
	if c.namespace != "" {
		attrs = append(attrs, namespaceName.String(c.namespace))
	}
	if c.address != "" {
		attrs = append(attrs, serverAddress.String(c.address))
		if c.port != 0 {
			attrs = append(attrs, serverPort.Int(c.port))
		}
	}
	return attrs
}

func (c *config) poolName() string {
	switch {
	case c.name != "":
		return c.name
	case c.address != "" && c.port != 0:
		return fmt.Sprintf("%s:%d/%s", c.address, c.port, c.namespace)
	case c.address+c.namespace != "":
		return c.address + "/" + c.namespace
	}
	return c.system
}

// Observe is the option for the handle.
func (t *Telemetry) Observe() dblocker.Option {
	return dblocker.Observe(t.event, dblocker.EventHoldEnded, dblocker.EventOperationEnded)
}

// isNil tells of nothing, and of a nil pointer in an interface.
func isNil(v any) bool {
	p := reflect.ValueOf(v)
	return v == nil || p.Kind() == reflect.Pointer && p.IsNil()
}

// check returns an error if a handle was not opened through dblocker. One that says so itself is not used for that, since the first use opens the database.
func check(db dblocker.Handle) error {
	plain, _ := db.(*sql.DB)
	if x, _ := db.(*sqlx.DB); x != nil {
		plain = x.DB
	}
	if plain != nil {
		if _, ok := plain.Driver().(*dblocker.Driver); ok {
			return nil
		}
	}
	_, err := dblocker.Stats(db)
	return err
}

// Register has the counts of connections and locks looked up, by [dblocker.Stats], whenever metrics are collected. Unregister ends that. It is an error
// if db was not opened through dblocker.
func (t *Telemetry) Register(db dblocker.Handle) (unregister func() error, err error) {
	if err := check(db); err != nil {
		return nil, err
	}
	count, err1 := t.meter.Int64ObservableUpDownCounter(connectionCount, metric.WithUnit("{connection}"), metric.WithDescription("Server connections by state."))
	limit, err2 := t.meter.Int64ObservableUpDownCounter(connectionLimit, metric.WithUnit("{connection}"), metric.WithDescription("The most server connections."))
	locks, err3 := t.meter.Int64ObservableUpDownCounter(lockCount, metric.WithUnit("{lock}"), metric.WithDescription("Users' locks, of all handles on the database."))
	looked, err4 := t.meter.Int64ObservableCounter(lookups, metric.WithUnit("{statement}"), metric.WithDescription("Statements that were looked for among those that are kept prepared."))
	kept, err5 := t.meter.Int64ObservableUpDownCounter(keptStmts, metric.WithUnit("{statement}"), metric.WithDescription("Statements that server connections keep prepared."))
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return nil, err
	}
	r, err := t.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		st, err := dblocker.Stats(db)
		if err != nil {
			return err
		}
		o.ObserveInt64(count, int64(st.Server.InUse), t.poolSet, metric.WithAttributes(poolState.String("used")))
		o.ObserveInt64(count, int64(st.Server.Idle), t.poolSet, metric.WithAttributes(poolState.String("idle")))
		if st.Server.MaxOpenConnections > 0 {
			o.ObserveInt64(limit, int64(st.Server.MaxOpenConnections), t.poolSet)
		}
		o.ObserveInt64(locks, int64(st.Held), metric.WithAttributes(append([]attribute.KeyValue{state.String("held")}, t.db...)...))
		o.ObserveInt64(locks, int64(st.Waiting), metric.WithAttributes(append([]attribute.KeyValue{state.String("waiting")}, t.db...)...))
		o.ObserveInt64(looked, st.Statements.Hits, metric.WithAttributes(append([]attribute.KeyValue{found.Bool(true)}, t.db...)...))
		o.ObserveInt64(looked, st.Statements.Misses, metric.WithAttributes(append([]attribute.KeyValue{found.Bool(false)}, t.db...)...))
		o.ObserveInt64(kept, int64(st.Statements.Kept), metric.WithAttributes(t.db...))
		return nil
	}, count, limit, locks, looked, kept)
	if err != nil {
		return nil, err
	}
	return r.Unregister, nil
}
