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
	first, last int // the users, which are also the ids of counters
	who         choice
	action      action
}

// A choice is how a goroutine comes to its user.
type choice int

const (
	anyUser choice = iota // one by chance each time
	ownUser               // each goroutine is always the same one
	inTurn                // one after the other; each goroutine begins elsewhere
)

// An action is one operation of a user. It is the same for all contenders, what it
// leaves to chance included.
type action func(ctx context.Context, s store, user int, dice *rand.Rand, t *tally) error

var strangers = crowd{20, 2, 21, ownUser, read}

var loads = []load{
	{"read", []crowd{{16, 1, 100, anyUser, read}}, throughput},
	{"update", []crowd{{16, 1, 100, anyUser, update}}, throughput},
	{"writers", []crowd{{64, 1, 100, anyUser, update}}, throughput},
	{"mix", []crowd{{64, 1, 100, anyUser, mix}}, throughput},
	{"rmw", []crowd{{32, 1, 50, anyUser, modify}}, throughput},
	{"rmw64", []crowd{{64, 1, 100, anyUser, modify}}, throughput},
	{"lone", []crowd{{1, 1, 1, ownUser, update}}, throughput},
	{"quiet", []crowd{strangers}, throughput},
	{"hot", []crowd{strangers, {200, 1, 1, anyUser, update}}, disturbance},
	{"fair", []crowd{{200, 1, 200, ownUser, update}}, fairness},
}

// workers are the goroutines' work on a store.
func (l load) workers(ctx context.Context, s store, p plan) []worker {
	var all []worker
	for _, c := range l.crowds {
		for i := range p.limit(c.size) {
			dice := rand.New(rand.NewPCG(uint64(len(all)), 0))
			turn := i * (c.last - c.first + 1) / c.size
			all = append(all, func(t *tally) error {
				turn++
				return c.action(ctx, s, c.user(i, turn, dice), dice, t)
			})
		}
	}
	return all
}

// user is that of goroutine i for an operation; turn counts the goroutine's.
func (c crowd) user(i, turn int, dice *rand.Rand) int {
	n := c.last - c.first + 1
	switch c.who {
	case ownUser:
		return c.first + i
	case inTurn:
		return c.first + turn%n
	}
	return c.first + dice.IntN(n)
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
