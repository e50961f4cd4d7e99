package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// median of an even number of values is the mean of the two in the middle.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// medianOf is the median over a contender's rounds.
func medianOf(samples []sample, value func(sample) float64) float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = value(s)
	}
	return median(values)
}

// A spread is a figure's median over the rounds, its least and its most.
type spread struct{ median, least, most float64 }

// spread is that of the figure of entry i.
func (c *comparison) spread(i int) spread {
	values := make([]float64, len(c.entries[i].samples))
	for round := range values {
		values[round] = c.figure(i, round)
	}
	return spread{median(values), slices.Min(values), slices.Max(values)}
}

func (s spread) String() string {
	return fmt.Sprintf("%s (%s–%s)", short(s.median), short(s.least), short(s.most))
}

// known says whether the figure could be computed: one against nothing cannot.
func known(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// short writes a figure with about three digits.
func short(v float64) string {
	switch {
	case !known(v):
		return "?"
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

// perOp is the time that one operation takes, of the wall clock: with 16 goroutines
// it is a sixteenth of what each of them waits.
func perOp(s sample) float64 { return float64(time.Second) / s.rate }

// duration writes nanoseconds in the unit that fits.
func duration(ns float64) string {
	switch {
	case ns < 1e3:
		return short(ns) + " ns"
	case ns < 1e6:
		return short(ns/1e3) + " µs"
	}
	return short(ns/1e6) + " ms"
}

// milliseconds writes the middle, the 99th percentile and the longest of the times
// that operations took: medians over the rounds, but of the longest the longest.
func milliseconds(samples []sample, of func(sample) latency) string {
	var longest time.Duration
	for _, s := range samples {
		longest = max(longest, of(s).max)
	}
	if longest == 0 {
		return ""
	}
	ms := func(of func(sample) time.Duration) string {
		return short(medianOf(samples, func(s sample) float64 { return of(s).Seconds() * 1e3 }))
	}
	return fmt.Sprintf("%s / %s / %s",
		ms(func(s sample) time.Duration { return of(s).p50 }),
		ms(func(s sample) time.Duration { return of(s).p99 }),
		short(longest.Seconds()*1e3))
}
