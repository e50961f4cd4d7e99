package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/calmdocs/dblocker"
)

// A setting is what the calls of a workload have around them.
type setting struct {
	cancellable bool
	goroutines  int
}

var settings = []setting{{false, 1}, {true, 1}, {false, 16}, {true, 16}}

func (s setting) String() string {
	if s.cancellable {
		return fmt.Sprintf("cancellable/%d", s.goroutines)
	}
	return fmt.Sprintf("plain/%d", s.goroutines)
}

// context is the context of goroutine i, which is a user of its own. All
// contenders get the same.
func (s setting) context(i int) (context.Context, context.CancelFunc) {
	ctx, cancel := context.Background(), func() {}
	if s.cancellable {
		ctx, cancel = context.WithCancel(ctx)
	}
	return dblocker.WithUser(ctx, i+1), cancel
}

// callSuite compares the wrappers on one engine.
func callSuite(ctx context.Context, d *databases, e *engine, sel selection) ([]*comparison, error) {
	var contenders []callContender
	for i, w := range wrappersFor(e) {
		if i > 0 && !sel.contender.MatchString(w.name) {
			continue
		}
		dsn, err := d.create(ctx, e, memory().dir)
		if err != nil {
			return nil, err
		}
		contenders = append(contenders, callContender{w, e, dsn})
	}
	var all []*comparison
	for _, c := range calls {
		for _, s := range settings {
			if workload := c.name + "/" + s.String(); sel.workload.MatchString(workload) {
				all = append(all, compareCalls(workload, c, s, contenders))
			}
		}
	}
	return all, nil
}

func compareCalls(workload string, c call, s setting, contenders []callContender) *comparison {
	compared := &comparison{where: contenders[0].engine.name, workload: workload}
	for _, contender := range contenders {
		compared.entries = append(compared.entries, &entry{
			contender: contender.name,
			open: func(ctx context.Context, p plan) (*trial, error) {
				return contender.trial(ctx, c, s, p.limit(s.goroutines))
			},
		})
	}
	compared.baseline = compared.entries[0]
	compared.title = "time / bare"
	compared.figure = func(i, round int) float64 {
		return compared.baseline.samples[round].rate / compared.entries[i].samples[round].rate
	}
	return compared
}

// A callContender is a wrapper with a database of its own.
type callContender struct {
	wrapper
	engine *engine
	dsn    string
}

// trial opens the database for one slice.
func (cc callContender) trial(ctx context.Context, c call, s setting, goroutines int) (*trial, error) {
	db, err := cc.open(cc.engine, cc.dsn)
	if err != nil {
		return nil, err
	}
	db.SetMaxIdleConns(maxIdle)
	session, err := newSession(ctx, cc.engine, db)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	t := &trial{sum: func(ctx context.Context) (int, error) { return sumCounters(ctx, db) }}
	var cancels []context.CancelFunc
	for i := range goroutines {
		ctx, cancel := s.context(i)
		cancels = append(cancels, cancel)
		t.workers = append(t.workers, c.worker(ctx, session, i))
	}
	t.close = func() error {
		for _, cancel := range cancels {
			cancel()
		}
		return session.close()
	}
	if err := connect(ctx, db, goroutines); err != nil {
		return nil, errors.Join(err, t.close())
	}
	return t, nil
}

// worker does the call for goroutine i: on one item after the other, or on the
// goroutine's own counter.
func (c call) worker(ctx context.Context, s *session, i int) worker {
	if c.updates {
		return func(t *tally) error { return t.updated(c.run(ctx, s, i+1)) }
	}
	id := i * itemCount / maxIdle
	return func(*tally) error {
		id = id%itemCount + 1
		return c.run(ctx, s, id)
	}
}

// connect opens a connection for each goroutine, so that none is opened while we
// measure: rows that are open have one to themselves.
func connect(ctx context.Context, db *sql.DB, goroutines int) error {
	var open []*sql.Rows
	defer func() {
		for _, rows := range open {
			rows.Close()
		}
	}()
	for range goroutines {
		rows, err := db.QueryContext(ctx, "SELECT id FROM items")
		if err != nil {
			return err
		}
		open = append(open, rows)
	}
	return nil
}
