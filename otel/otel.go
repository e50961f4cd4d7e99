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
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/calmdocs/dblocker"
)

const (
	scope     = "github.com/calmdocs/dblocker/otel" // also the path of the module
	schemaURL = "https://opentelemetry.io/schemas/1.45.0"
)

// version is that of the module in the program that it is in.
var version = sync.OnceValue(func() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range append(info.Deps, &info.Main) {
			if m.Path == scope && m.Version != "" {
				return m.Version
			}
		}
	}
	return "(devel)"
})

// A Telemetry is what one handle tells.
type Telemetry struct {
	tracer  trace.Tracer
	meter   metric.Meter
	users   bool
	db      []attribute.KeyValue // of operations
	pool    []attribute.KeyValue // of connections
	poolSet metric.MeasurementOption
	option  dblocker.Option // of Observe

	registered atomic.Bool // a handle is

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
	c := config{meters: otel.GetMeterProvider(), tracers: otel.GetTracerProvider()}
	for _, opt := range opts {
		if opt == nil {
			return nil, errors.New("dblockerotel: New: an option is nil; leave it out")
		}
		opt(&c)
	}
	if isNil(c.meters) || isNil(c.tracers) {
		return nil, errors.New("dblockerotel: New: a provider is nil; leave its option out to use the global one")
	}
	c.system = cmp.Or(c.system, "other_sql")
	t := &Telemetry{users: c.users, db: c.attributes()}
	t.tracer = c.tracers.Tracer(scope, trace.WithInstrumentationVersion(version()), trace.WithSchemaURL(schemaURL))
	t.meter = c.meters.Meter(scope, metric.WithInstrumentationVersion(version()), metric.WithSchemaURL(schemaURL))
	t.pool = append(c.attributes(), poolName.String(c.poolName()))
	t.poolSet = t.ofPool()
	t.option = dblocker.Observe(t.event, dblocker.EventHoldEnded, dblocker.EventOperationEnded)
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

// Observe is the option for the handle. A handle that is given it twice is counted once.
func (t *Telemetry) Observe() dblocker.Option { return t.option }

// isNil tells of nothing, and of a nil pointer in an interface.
func isNil(v any) bool {
	p := reflect.ValueOf(v)
	return v == nil || p.Kind() == reflect.Pointer && p.IsNil()
}
