package dblockerotel

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/calmdocs/dblocker"
)

// instruments are those that events are counted by.
type instruments struct {
	operations, waits, holds, syncs, creates, connWaits, connUses metric.Float64Histogram
	batches                                                       metric.Int64Histogram
	timeouts, dropped                                             metric.Int64Counter
	happened                                                      map[dblocker.EventKind]metric.Int64Counter
}

func (in *instruments) make(m metric.Meter) (err error) {
	var errs []error
	seconds := func(name, description string, bounds []float64) metric.Float64Histogram {
		h, err := m.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(description), metric.WithExplicitBucketBoundaries(bounds...))
		errs = append(errs, err)
		return h
	}
	counter := func(name, unit, description string) metric.Int64Counter {
		c, err := m.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(description))
		errs = append(errs, err)
		return c
	}
	in.operations = seconds(operationDuration, "Duration of database client operations.", operationTimes)
	in.waits = seconds(waitTime, "Waits for users' locks, gates and connections that have ended.", lockTimes)
	in.holds = seconds(holdTime, "How long what was granted was held.", lockTimes)
	in.syncs = seconds(syncTime, "Syncs of write-ahead logs.", lockTimes)
	in.creates = seconds(createTime, "The time it took to create a new connection.", operationTimes)
	in.connWaits = seconds(connectionWait, "The time it took to obtain an open connection from the pool.", operationTimes)
	in.connUses = seconds(useTime, "The time between borrowing a connection and returning it to the pool.", operationTimes)
	in.timeouts = counter(timeouts, "{timeout}", "The number of connection timeouts that have occurred trying to obtain a connection from the pool.")
	in.dropped = counter(dropped, "{event}", "Events that were not kept up with.")
	in.happened = map[dblocker.EventKind]metric.Int64Counter{
		dblocker.EventDeadlock:    counter(deadlocks, "{deadlock}", "Calls that were refused with ErrDeadlock."),
		dblocker.EventUpgrade:     counter(upgrades, "{upgrade}", "Owners that wrote while they read."),
		dblocker.EventHoldLong:    counter(longHolds, "{hold}", "Holds that others have waited for five seconds for."),
		dblocker.EventSpill:       counter(spills, "{rows}", "Rows that were read into memory to make way."),
		dblocker.EventLockLost:    counter(lostLocks, "{lock}", "Locks among processes that were lost with their connection."),
		dblocker.EventSessionLost: counter(lostSessions, "{session}", "Sessions that lost their connection."),
	}
	in.batches, err = m.Int64Histogram(batchSize, metric.WithUnit("{call}"), metric.WithDescription("Calls of others in one transaction."), metric.WithExplicitBucketBoundaries(groupSizes...))
	return errors.Join(append(errs, err)...)
}

// event counts one event.
func (t *Telemetry) event(e dblocker.Event) {
	ctx := e.Context // for exemplars
	if ctx == nil {
		ctx = context.Background()
	}
	if e.Dropped > 0 {
		t.dropped.Add(ctx, e.Dropped, metric.WithAttributes(t.db...))
	}
	switch e.Kind {
	case dblocker.EventWaitEnded:
		t.waitEnded(ctx, e)
	case dblocker.EventHoldEnded:
		t.holdEnded(ctx, e)
	case dblocker.EventOperationEnded:
		t.operations.Record(ctx, e.Duration.Seconds(), t.with(operationAttributes(e)...))
	case dblocker.EventSync:
		t.syncs.Record(ctx, e.Duration.Seconds(), t.with(errorAttributes(e)...))
	case dblocker.EventBatch:
		t.batches.Record(ctx, int64(e.Count), t.with())
	case dblocker.EventConnOpened:
		if e.Err == nil {
			t.creates.Record(ctx, e.Duration.Seconds(), t.poolSet)
		}
	default:
		if c := t.happened[e.Kind]; c != nil {
			c.Add(ctx, 1, t.with())
		}
	}
}

func (t *Telemetry) with(attrs ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributes(append(attrs, t.db...)...)
}

func operationAttributes(e dblocker.Event) (attrs []attribute.KeyValue) {
	if e.Operation != "" {
		attrs = append(attrs, operationName.String(e.Operation))
	}
	return append(attrs, errorAttributes(e)...)
}

func errorAttributes(e dblocker.Event) (attrs []attribute.KeyValue) {
	if e.Err != nil {
		attrs = append(attrs, errorType.String(e.Cause))
	}
	if e.Code != "" {
		attrs = append(attrs, statusCode.String(e.Code))
	}
	return attrs
}

func (t *Telemetry) waitEnded(ctx context.Context, e dblocker.Event) {
	if e.What == "connection" {
		switch e.Outcome {
		case dblocker.OutcomeGranted:
			t.connWaits.Record(ctx, e.Duration.Seconds(), t.poolSet)
		case dblocker.OutcomeTimeout:
			t.timeouts.Add(ctx, 1, t.poolSet)
		}
	}
	t.waits.Record(ctx, e.Duration.Seconds(), t.with(what.String(e.What), mode.String(e.Mode.String()), outcome.String(string(e.Outcome))))
	t.span(ctx, e)
}

func (t *Telemetry) holdEnded(ctx context.Context, e dblocker.Event) {
	if e.What == "connection" {
		t.connUses.Record(ctx, e.Duration.Seconds(), t.poolSet)
	}
	t.holds.Record(ctx, e.Duration.Seconds(), t.with(what.String(e.What), mode.String(e.Mode.String()), kind.String(e.Held)))
}

// span makes the span of a wait that has ended, in the span of the call.
func (t *Telemetry) span(ctx context.Context, e dblocker.Event) {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return
	}
	opts := []trace.SpanStartOption{
		trace.WithTimestamp(e.Time.Add(-e.Duration)),
		trace.WithAttributes(t.db...),
		trace.WithAttributes(what.String(e.What), mode.String(e.Mode.String()), kind.String(e.Held), outcome.String(string(e.Outcome))),
	}
	if e.Tag != "" {
		opts = append(opts, trace.WithAttributes(tag.String(e.Tag)))
	}
	if t.users && e.User != "" {
		opts = append(opts, trace.WithAttributes(user.String(e.User)))
	}
	if e.Blocker != nil {
		opts = append(opts, trace.WithAttributes(blocker.String(e.Blocker.Kind)))
	}
	if e.BlockerContext != nil {
		if by := trace.SpanContextFromContext(e.BlockerContext); by.IsValid() {
			opts = append(opts, trace.WithLinks(trace.Link{SpanContext: by, Attributes: []attribute.KeyValue{attribute.String("dblocker.link", "blocked_by")}}))
		}
	}
	_, span := t.tracer.Start(ctx, "dblocker wait for "+e.What, opts...)
	if e.Outcome != dblocker.OutcomeGranted {
		span.SetStatus(codes.Error, string(e.Outcome))
		span.SetAttributes(errorType.String(string(e.Outcome)))
	}
	span.End(trace.WithTimestamp(e.Time))
}
