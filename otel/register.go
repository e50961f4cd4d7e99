package dblockerotel

import (
	"context"
	"database/sql"
	"errors"
	"sync"

	"github.com/jmoiron/sqlx"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/calmdocs/dblocker"
)

// A reading is one value of what Stats says.
type reading struct {
	instrument metric.Int64Observable
	with       metric.MeasurementOption
	of         func(*dblocker.Statistics) int64
	unlessZero bool // 0 is not told
}

// readings returns all of them, with their instruments.
func (t *Telemetry) readings() (all []reading, instruments []metric.Observable, err error) {
	var errs []error
	made := func(o metric.Int64Observable, err error) metric.Int64Observable {
		instruments, errs = append(instruments, o), append(errs, err)
		return o
	}
	upDown := func(name, unit, description string) metric.Int64Observable {
		return made(t.meter.Int64ObservableUpDownCounter(name, metric.WithUnit(unit), metric.WithDescription(description)))
	}
	connections := upDown(connectionCount, "{connection}", "Server connections by state.")
	limit := upDown(connectionLimit, "{connection}", "The most server connections.")
	maxIdle := upDown(idleMax, "{connection}", "The most server connections that are kept unused.")
	pending := upDown(pendingRequests, "{request}", "The number of current pending requests for an open connection.")
	locks := upDown(lockCount, "{lock}", "Users' locks, of all handles on the database.")
	statements := upDown(keptStmts, "{statement}", "Statements that server connections keep prepared.")
	databases := upDown(openDatabases, "{database}", "Databases of users that are open.")
	looked := made(t.meter.Int64ObservableCounter(lookups, metric.WithUnit("{statement}"), metric.WithDescription("Statements that were looked for among those that are kept prepared.")))
	return []reading{
		{connections, t.ofPool(poolState.String("used")), func(s *dblocker.Statistics) int64 { return int64(s.Server.InUse) }, false},
		{connections, t.ofPool(poolState.String("idle")), func(s *dblocker.Statistics) int64 { return int64(s.Server.Idle) }, false},
		{limit, t.poolSet, func(s *dblocker.Statistics) int64 { return int64(s.Server.MaxOpenConnections) }, true},
		{maxIdle, t.poolSet, func(s *dblocker.Statistics) int64 { return int64(s.MaxIdle) }, true},
		{pending, t.poolSet, func(s *dblocker.Statistics) int64 { return int64(s.ConnectionsWaiting) }, false},
		{locks, t.with(state.String("held")), func(s *dblocker.Statistics) int64 { return int64(s.Held) }, false},
		{locks, t.with(state.String("waiting")), func(s *dblocker.Statistics) int64 { return int64(s.Waiting) }, false},
		{looked, t.with(found.Bool(true)), func(s *dblocker.Statistics) int64 { return s.Statements.Hits }, false},
		{looked, t.with(found.Bool(false)), func(s *dblocker.Statistics) int64 { return s.Statements.Misses }, false},
		{statements, t.with(), func(s *dblocker.Statistics) int64 { return int64(s.Statements.Kept) }, false},
		{databases, t.with(), func(s *dblocker.Statistics) int64 { return int64(s.Databases.Open) }, false},
	}, instruments, errors.Join(errs...)
}

func (t *Telemetry) ofPool(attrs ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributes(append(attrs, t.pool...)...)
}

var errRegistered = errors.New("dblockerotel: Register: this Telemetry has a handle already; unregister that one first, or make another Telemetry by New for another handle")

// Register has the counts of connections, locks and databases looked up, by [dblocker.Stats], whenever metrics are collected. Unregister ends that. It is an error
// if db was not opened through dblocker, and while a handle is registered already.
func (t *Telemetry) Register(db dblocker.Handle) (unregister func() error, err error) {
	if err := check(db); err != nil {
		return nil, err
	}
	if !t.registered.CompareAndSwap(false, true) {
		return nil, errRegistered
	}
	defer func() {
		if err != nil {
			t.registered.Store(false)
		}
	}()
	all, instruments, err := t.readings()
	if err != nil {
		return nil, err
	}
	r, err := t.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error { return read(db, all, o) }, instruments...)
	if err != nil {
		return nil, err
	}
	return sync.OnceValue(func() error {
		defer t.registered.Store(false)
		return r.Unregister()
	}), nil
}

func read(db dblocker.Handle, all []reading, o metric.Observer) error {
	st, err := dblocker.Stats(db)
	if err != nil {
		return err
	}
	for _, r := range all {
		if n := r.of(&st); n != 0 || !r.unlessZero {
			o.ObserveInt64(r.instrument, n, r.with)
		}
	}
	return nil
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
