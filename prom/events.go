package dblockerprom

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/calmdocs/dblocker"
)

// events are the metrics that come from events.
type events struct {
	waits, holds, operations, syncs *prometheus.HistogramVec
	batches, connects               prometheus.Histogram
	happened                        *prometheus.CounterVec
	bytes, dropped                  prometheus.Counter
	databases                       prometheus.Gauge
}

var (
	shortTimes = prometheus.ExponentialBuckets(0.0001, 4, 10) // from 0.1 ms to 26 s
	longTimes  = prometheus.ExponentialBuckets(0.0005, 4, 10) // from 0.5 ms to 2 min

	// Those that OpenTelemetry has for db.client.operation.duration.
	operationTimes = []float64{0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10}
)

func newEvents() events {
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	}
	return events{
		waits:      histogram("dblocker_wait_seconds", "Waits that have ended, by what was waited for.", longTimes, "what", "mode", "outcome"),
		holds:      histogram("dblocker_hold_seconds", "How long what was granted was held.", longTimes, "what", "mode", "kind"),
		operations: histogram("db_client_operation_duration_seconds", "Calls at the server, without the waits before them.", operationTimes, "operation", "result"),
		syncs:      histogram("dblocker_sync_seconds", "Syncs of write-ahead logs (durability=group).", shortTimes, "result"),
		batches:    prometheus.NewHistogram(prometheus.HistogramOpts{Name: "dblocker_batch_calls", Help: "Statements of others in one transaction.", Buckets: []float64{1, 2, 4, 8, 16, 32, 64}}),
		connects:   prometheus.NewHistogram(prometheus.HistogramOpts{Name: "dblocker_connect_seconds", Help: "Opening of server connections.", Buckets: shortTimes}),
		happened:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "dblocker_events_total", Help: "Events by kind; those that have a metric of their own too."}, []string{"kind"}),
		bytes:      prometheus.NewCounter(prometheus.CounterOpts{Name: "dblocker_spilled_bytes_total", Help: "Bytes of rows that were read into memory."}),
		dropped:    prometheus.NewCounter(prometheus.CounterOpts{Name: "dblocker_events_dropped_total", Help: "Events that this collector has not kept up with."}),
		databases:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "dblocker_open_databases", Help: "Databases of users that are open."}),
	}
}

func (m *events) all() []prometheus.Collector {
	return []prometheus.Collector{m.waits, m.holds, m.operations, m.syncs, m.batches, m.connects, m.happened, m.bytes, m.dropped, m.databases}
}

// count counts one event.
func (m *events) count(e dblocker.Event) {
	m.dropped.Add(float64(e.Dropped))
	took := e.Duration.Seconds()
	switch e.Kind {
	case dblocker.EventWaitEnded:
		m.waits.WithLabelValues(e.What, e.Mode.String(), string(e.Outcome)).Observe(took)
	case dblocker.EventHoldEnded:
		m.holds.WithLabelValues(e.What, e.Mode.String(), e.Held).Observe(took)
		return
	case dblocker.EventOperationEnded:
		m.operations.WithLabelValues(e.Operation, result(e)).Observe(took)
		return
	case dblocker.EventSync:
		m.syncs.WithLabelValues(result(e)).Observe(took)
	case dblocker.EventBatch:
		m.batches.Observe(float64(e.Count))
	case dblocker.EventSpill:
		m.bytes.Add(float64(e.Bytes))
	case dblocker.EventConnOpened:
		if e.Err == nil {
			m.connects.Observe(took)
		}
	case dblocker.EventDatabaseOpened:
		if e.Err == nil {
			m.databases.Inc()
		}
	case dblocker.EventDatabaseEvicted:
		m.databases.Dec()
	}
	m.happened.WithLabelValues(string(e.Kind)).Inc()
}

func result(e dblocker.Event) string {
	if e.Err != nil {
		return e.Cause
	}
	return "ok"
}
