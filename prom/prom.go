// Package dblockerprom has the metrics of handles that were opened through dblocker, as a collector for Prometheus.
//
//	metrics := dblockerprom.New()
//	db, err := dblocker.OpenDB(connector, metrics.Observe("app"))
//	if err != nil {
//		return err
//	}
//	metrics.Add("app", db)
//	prometheus.MustRegister(metrics)
//
// All metrics have the name of their handle as the label db. No metric has a user as a label.
package dblockerprom

import (
	"log/slog"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/calmdocs/dblocker"
)

// A Collector is a [prometheus.Collector] for one handle or several. A program needs one: a registry takes no second one.
type Collector struct {
	events

	mu       sync.Mutex // guards what follows
	handles  []handle
	observed map[string]*observed // by name
}

// An observed handle is one whose events are counted.
type observed struct {
	option dblocker.Option

	mu      sync.Mutex // held while an event is counted; guards what follows
	removed bool
}

type handle struct {
	name string
	db   dblocker.Handle
	told *sync.Once
}

var _ prometheus.Collector = (*Collector)(nil)

// New returns a collector that knows no handle yet.
func New() *Collector {
	return &Collector{events: newEvents(), observed: make(map[string]*observed)}
}

// Observe is the option for a handle whose events are counted, with the name as the label db: the one that it is added by. A handle that is given it twice is counted once.
func (c *Collector) Observe(name string) dblocker.Option {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.observed[name]
	if o == nil {
		c.begin(name)
		o = new(observed)
		o.option = dblocker.Observe(func(e dblocker.Event) {
			o.mu.Lock()
			defer o.mu.Unlock()
			if !o.removed {
				c.count(name, e)
			}
		}, dblocker.EventHoldEnded, dblocker.EventOperationEnded)
		c.observed[name] = o
	}
	return o.option
}

// Add adds what [dblocker.Stats] says of a handle, with the name as the label db. With a name that is there, the handle
// takes the place of the other. If the handle has no metrics, as one that was not opened through dblocker, the first scrape logs why.
func (c *Collector) Add(name string, db dblocker.Handle) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handles = append(without(c.handles, name), handle{name, db, new(sync.Once)})
}

// Remove takes the handle off, and all that was counted of it. What happens on it later is not counted.
func (c *Collector) Remove(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if o := c.observed[name]; o != nil {
		o.mu.Lock()
		o.removed = true
		o.mu.Unlock()
		delete(c.observed, name)
	}
	c.forget(name)
	c.handles = without(c.handles, name)
}

func without(handles []handle, name string) []handle {
	return slices.DeleteFunc(slices.Clone(handles), func(h handle) bool { return h.name == name })
}

// Describe implements [prometheus.Collector].
func (c *Collector) Describe(to chan<- *prometheus.Desc) {
	for _, m := range c.all() {
		m.Describe(to)
	}
	for _, g := range gauges {
		to <- g.desc
	}
}

// Collect implements [prometheus.Collector]. A handle that is closed has no metrics.
func (c *Collector) Collect(to chan<- prometheus.Metric) {
	for _, m := range c.all() {
		m.Collect(to)
	}
	c.mu.Lock()
	handles := c.handles
	c.mu.Unlock()
	for _, h := range handles {
		st, err := dblocker.Stats(h.db)
		if err != nil {
			h.tell(err)
			continue
		}
		for _, g := range gauges {
			to <- prometheus.MustNewConstMetric(g.desc, g.kind, g.of(st), append([]string{h.name}, g.labels...)...)
		}
	}
}

// tell logs, once, why a handle has no metrics, unless it is closed.
func (h handle) tell(err error) {
	if err.Error() != "sql: database is closed" { // an error that database/sql does not export
		h.told.Do(func() { slog.Warn("dblockerprom: a handle has no metrics", "db", h.name, "error", err) })
	}
}

// A gauge is one value of what Stats says.
type gauge struct {
	desc   *prometheus.Desc
	kind   prometheus.ValueType
	labels []string
	of     func(dblocker.Statistics) float64
}

var (
	held        = prometheus.NewDesc("dblocker_locks_held", "Holds of users' locks, of all handles on the database.", []string{"db"}, nil)
	waiting     = prometheus.NewDesc("dblocker_locks_waiting", "Calls that wait for users' locks, of all handles on the database.", []string{"db"}, nil)
	connections = prometheus.NewDesc("dblocker_connections", "Server connections by state.", []string{"db", "state"}, nil)
	pending     = prometheus.NewDesc("dblocker_connections_waiting", "Calls that wait for a server connection.", []string{"db"}, nil)
	limit       = prometheus.NewDesc("dblocker_connections_limit", "The most server connections, by max_open_conns; 0 is no limit.", []string{"db"}, nil)
	combined    = prometheus.NewDesc("dblocker_combined_total", "Statements that one caller has run for others, of all kinds of outcome.", []string{"db", "outcome"}, nil)
	lookups     = prometheus.NewDesc("dblocker_statement_lookups_total", "Statements that were looked for among those that are kept prepared.", []string{"db", "result"}, nil)
	statements  = prometheus.NewDesc("dblocker_statements_kept", "Statements that server connections keep prepared.", []string{"db"}, nil)
	databases   = prometheus.NewDesc("dblocker_open_databases", "Databases of users that are open.", []string{"db"}, nil)
	processes   = prometheus.NewDesc("dblocker_process_wait_seconds_total", "Time of waits for users' locks among processes.", []string{"db"}, nil)
)

var gauges = []gauge{
	{held, prometheus.GaugeValue, nil, func(s dblocker.Statistics) float64 { return float64(s.Held) }},
	{waiting, prometheus.GaugeValue, nil, func(s dblocker.Statistics) float64 { return float64(s.Waiting) }},
	{connections, prometheus.GaugeValue, []string{"used"}, func(s dblocker.Statistics) float64 { return float64(s.Server.InUse) }},
	{connections, prometheus.GaugeValue, []string{"idle"}, func(s dblocker.Statistics) float64 { return float64(s.Server.Idle) }},
	{pending, prometheus.GaugeValue, nil, func(s dblocker.Statistics) float64 { return float64(s.ConnectionsWaiting) }},
	{limit, prometheus.GaugeValue, nil, func(s dblocker.Statistics) float64 { return float64(s.Server.MaxOpenConnections) }},
	{combined, prometheus.CounterValue, []string{"together"}, func(s dblocker.Statistics) float64 { return float64(s.Combined) }},
	{combined, prometheus.CounterValue, []string{"alone"}, func(s dblocker.Statistics) float64 { return float64(s.Alone) }},
	{lookups, prometheus.CounterValue, []string{"hit"}, func(s dblocker.Statistics) float64 { return float64(s.Statements.Hits) }},
	{lookups, prometheus.CounterValue, []string{"miss"}, func(s dblocker.Statistics) float64 { return float64(s.Statements.Misses) }},
	{statements, prometheus.GaugeValue, nil, func(s dblocker.Statistics) float64 { return float64(s.Statements.Kept) }},
	{databases, prometheus.GaugeValue, nil, func(s dblocker.Statistics) float64 { return float64(s.Databases.Open) }},
	{processes, prometheus.CounterValue, nil, func(s dblocker.Statistics) float64 { return s.Processes.Time.Seconds() }},
}
