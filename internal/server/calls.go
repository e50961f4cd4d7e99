//go:build !race

package server

// calls is for the race detector: see calls_race.go.
type calls struct{}

func (*calls) note() {}
