package main

import (
	"context"
	"math/rand/v2"
	"time"
)

// A load is a workload of the suite "load": crowds of goroutines at work at the
// same time. doc.go describes each in words.
type load struct {
	name    string
	crowds  []crowd
	verdict verdict
}

// A crowd is goroutines that do the same again and again, each time as one of some
// users.
type crowd struct {
	size        int
	first, last int  // the users, which are also the ids of counters
	own         bool // each goroutine is always the same one of them, instead of one by chance
	action      action
}

// An action is one operation of a user. It is the same for all contenders, what it
// leaves to chance included.
type action func(ctx context.Context, s store, user int, dice *rand.Rand, t *tally) error

var loads = []load{
	{
		name:    "read",
		crowds:  []crowd{{size: 16, first: 1, last: 100, action: read}},
		verdict: throughput,
	},
	{
		name:    "update",
		crowds:  []crowd{{size: 16, first: 1, last: 100, action: update}},
		verdict: throughput,
	},
	{
		name:    "mix",
		crowds:  []crowd{{size: 64, first: 1, last: 100, action: mix}},
		verdict: throughput,
	},
	{
		name:    "rmw",
		crowds:  []crowd{{size: 32, first: 1, last: 50, action: modify}},
		verdict: throughput,
	},
	{
		name:    "quiet",
		crowds:  []crowd{strangers},
		verdict: throughput,
	},
	{
		name:    "hot",
		crowds:  []crowd{strangers, {size: 200, first: 1, last: 1, action: update}},
		verdict: disturbance,
	},
	{
		name:    "fair",
		crowds:  []crowd{{size: 200, first: 1, last: 200, own: true, action: update}},
		verdict: fairness,
	},
}

var strangers = crowd{size: 20, first: 2, last: 21, own: true, action: read}

// workers are the goroutines' work on a store.
func (l load) workers(ctx context.Context, s store, p plan) []worker {
	var all []worker
	for _, c := range l.crowds {
		for i := range p.limit(c.size) {
			dice := rand.New(rand.NewPCG(uint64(len(all)), 0))
			all = append(all, func(t *tally) error { return c.action(ctx, s, c.user(i, dice), dice, t) })
		}
	}
	return all
}

func (c crowd) user(i int, dice *rand.Rand) int {
	if c.own {
		return c.first + i
	}
	return c.first + dice.IntN(c.last-c.first+1)
}

func read(ctx context.Context, s store, user int, _ *rand.Rand, t *tally) error {
	defer since(time.Now(), &t.reads)
	return s.read(ctx, user)
}

func update(ctx context.Context, s store, user int, _ *rand.Rand, t *tally) error {
	defer since(time.Now(), &t.writes)
	return t.updated(s.update(ctx, user))
}

func modify(ctx context.Context, s store, user int, _ *rand.Rand, t *tally) error {
	defer since(time.Now(), &t.writes)
	return t.updated(s.modify(ctx, user))
}

func mix(ctx context.Context, s store, user int, dice *rand.Rand, t *tally) error {
	if dice.IntN(10) == 0 {
		return update(ctx, s, user, dice, t)
	}
	return read(ctx, s, user, dice, t)
}

func since(start time.Time, took *[]time.Duration) { *took = append(*took, time.Since(start)) }
