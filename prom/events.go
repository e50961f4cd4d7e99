package dblockerprom

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/calmdocs/dblocker"
)

// events are the metrics that come from events.
type events struct {
	waits, holds, operations, syncs, batches, connects *prometheus.HistogramVec
	happened, bytes, dropped                           *prometheus.CounterVec
}

// A vector has one metric for each set of labels.
type vector interface {
	prometheus.Collector
	DeletePartialMatch(prometheus.Labels) int
}

var (
	shortTimes = prometheus.ExponentialBuckets(0.0001, 4, 10) // from 0.1 ms to 26 s
	longTimes  = prometheus.ExponentialBuckets(0.0005, 4, 10) // from 0.5 ms to 2 min

	// Those that OpenTelemetry has for db.client.operation.duration.
	operationTimes = []float64{0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10}
)

func newEvents() events {
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, append([]string{"db"}, labels...))
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"db"}, labels...))
	}
	return events{
		waits:      histogram("dblocker_wait_seconds", "Waits that have ended, by what was waited for.", longTimes, "what", "mode", "outcome"),
		holds:      histogram("dblocker_hold_seconds", "How long what was granted was held.", longTimes, "what", "mode", "kind"),
		operations: histogram("db_client_operation_duration_seconds", "Calls at the server, without the waits before them.", operationTimes, "system", "operation", "result"),
		syncs:      histogram("dblocker_sync_seconds", "Syncs of write-ahead logs (durability=group).", shortTimes, "result"),
		batches:    histogram("dblocker_batch_calls", "Statements of others in one transaction.", []float64{1, 2, 4, 8, 16, 32, 64}),
		connects:   histogram("dblocker_connect_seconds", "Opening of server connections.", shortTimes),
		happened:   counter("dblocker_events_total", "Events by kind; those that have a metric of their own too.", "kind"),
		bytes:      counter("dblocker_spilled_bytes_total", "Bytes of rows that were read into memory."),
		dropped:    counter("dblocker_events_dropped_total", "Events that this collector has not kept up with."),
	}
}

func (m *events) all() []vector {
	return []vector{m.waits, m.holds, m.operations, m.syncs, m.batches, m.connects, m.happened, m.bytes, m.dropped}
}

// counted are the kinds of events that are counted by kind.
var counted = []dblocker.EventKind{dblocker.EventWaitBegan, dblocker.EventWaitEnded, dblocker.EventHoldLong, dblocker.EventDeadlock, dblocker.EventUpgrade, dblocker.EventSpill,
	dblocker.EventBatch, dblocker.EventSync, dblocker.EventSessionLost, dblocker.EventSessionEnded, dblocker.EventLockLost, dblocker.EventConnOpened, dblocker.EventConnClosed,
	dblocker.EventDatabaseOpened, dblocker.EventDatabaseEvicted}

var outcomes = []dblocker.Outcome{dblocker.OutcomeGranted, dblocker.OutcomeTimeout, dblocker.OutcomeContext, dblocker.OutcomeDeadlock, dblocker.OutcomeClosed, dblocker.OutcomeFailed}

// begin has what may be rare begin at zero: of a counter that begins at one, no rate and no increase shows the first.
func (m *events) begin(db string) {
	for _, kind := range counted {
		m.happened.WithLabelValues(db, string(kind))
	}
	m.batches.WithLabelValues(db)
	m.connects.WithLabelValues(db)
	m.bytes.WithLabelValues(db)
	m.dropped.WithLabelValues(db)
}

// forget takes off what was counted of a name.
func (m *events) forget(db string) {
	for _, v := range m.all() {
		v.DeletePartialMatch(prometheus.Labels{"db": db})
	}
}

// count counts one event.
func (m *events) count(db string, e dblocker.Event) {
	m.dropped.WithLabelValues(db).Add(float64(e.Dropped))
	took := e.Duration.Seconds()
	switch e.Kind {
	case dblocker.EventWaitBegan:
		for _, outcome := range outcomes {
			m.waits.WithLabelValues(db, e.What, e.Mode.String(), string(outcome))
		}
	case dblocker.EventWaitEnded:
		m.waits.WithLabelValues(db, e.What, e.Mode.String(), string(e.Outcome)).Observe(took)
	case dblocker.EventHoldEnded:
		m.holds.WithLabelValues(db, e.What, e.Mode.String(), e.Held).Observe(took)
		return
	case dblocker.EventOperationEnded:
		m.operations.WithLabelValues(db, system(e), e.Operation, result(e)).Observe(took)
		return
	case dblocker.EventSync:
		m.syncs.WithLabelValues(db, result(e)).Observe(took)
	case dblocker.EventBatch:
		m.batches.WithLabelValues(db).Observe(float64(e.Count))
	case dblocker.EventSpill:
		m.bytes.WithLabelValues(db).Add(float64(e.Bytes))
	case dblocker.EventConnOpened:
		if e.Err == nil {
			m.connects.WithLabelValues(db).Observe(took)
		}
	}
	m.happened.WithLabelValues(db, string(e.Kind)).Inc()
}

// system is what OpenTelemetry calls the engine.
func system(e dblocker.Event) string {
	switch e.Engine {
	case "postgres":
		return "postgresql"
	case "generic":
		return "other_sql"
	}
	return e.Engine
}

func result(e dblocker.Event) string {
	if e.Err != nil {
		return e.Cause
	}
	return "ok"
}
