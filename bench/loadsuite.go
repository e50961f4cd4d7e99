package main

import (
	"context"
	"errors"
)

// A verdict is what a load is about: one figure for each contender.
type verdict struct {
	title string
	// value is taken of samples of one round: of a contender, of the baseline, and
	// of the contender in the load "quiet".
	value func(s, baseline, quiet sample) float64
}

var (
	throughput  = verdict{"ops/s / tuned", func(s, baseline, _ sample) float64 { return s.rate / baseline.rate }}
	disturbance = verdict{"read p99 / quiet", func(s, _, quiet sample) float64 { return float64(s.reads.p99) / float64(quiet.reads.p99) }}
	fairness    = verdict{"longest / median", func(s, _, _ sample) float64 { return float64(s.writes.max) / float64(s.writes.p50) }}
)

// loadSuite compares the ways to open an SQLite file at one place.
func loadSuite(ctx context.Context, d *databases, p place, sel selection) ([]*comparison, error) {
	var contenders []loadContender
	for _, w := range ways {
		if w.name != baselineWay && !sel.contender.MatchString(w.name) {
			continue
		}
		path, err := d.file(p.dir)
		if err != nil {
			return nil, err
		}
		contender := loadContender{w, path}
		if err := contender.create(ctx); err != nil {
			return nil, err
		}
		contenders = append(contenders, contender)
	}
	var all []*comparison
	var quiet *comparison
	for _, l := range loads {
		if !sel.workload.MatchString(l.name) {
			continue
		}
		c := compareLoads(p, l, contenders)
		if l.name == "quiet" {
			quiet = c
		}
		c.judge(l.verdict, quiet)
		all = append(all, c)
	}
	return all, nil
}

func compareLoads(p place, l load, contenders []loadContender) *comparison {
	compared := &comparison{where: p.name, workload: l.name, busy: p.busy}
	for _, contender := range contenders {
		e := &entry{
			contender: contender.name,
			open:      func(_ context.Context, p plan) (*trial, error) { return contender.trial(l, p) },
		}
		if contender.name == baselineWay {
			compared.baseline = e
		}
		compared.entries = append(compared.entries, e)
	}
	return compared
}

// judge sets the comparison's figure. quiet is nil if that load is left out.
func (c *comparison) judge(v verdict, quiet *comparison) {
	c.title = v.title
	c.figure = func(i, round int) float64 {
		var alone sample
		if quiet != nil {
			alone = quiet.entries[i].samples[round]
		}
		return v.value(c.entries[i].samples[round], c.baseline.samples[round], alone)
	}
}

// A loadContender is a way with a file of its own, which no other library opens.
type loadContender struct {
	way
	path string
}

func (lc loadContender) create(ctx context.Context) (err error) {
	s, err := lc.open(lc.path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	return s.create(ctx, schema())
}

// trial opens the file for one slice.
func (lc loadContender) trial(l load, p plan) (*trial, error) {
	s, err := lc.open(lc.path)
	if err != nil {
		return nil, err
	}
	return &trial{workers: l.workers(context.Background(), s, p), sum: s.sum, close: s.close}, nil
}
