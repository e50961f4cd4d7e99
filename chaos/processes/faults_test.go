//go:build unix

package processes

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"
)

// faults are what may go wrong in a round.
type faults []func(*crew, *rand.Rand)

// allFaults come from outside of the processes. Some are more usual than others.
var allFaults = faults{
	(*crew).killSession, (*crew).killSession, (*crew).killSession, (*crew).killSession,
	(*crew).killProcess,
	(*crew).freeze,
	(*crew).cut,
	(*crew).swallow,
}

var killedSessions = faults{(*crew).killSession}

// disturb lasts as long as the round. If everything may fail, the server is restarted in one round of three.
func (c *crew) disturb(rng *rand.Rand, d time.Duration, fs faults) {
	end := time.Now().Add(d)
	restart := time.Now().Add(time.Duration(rng.Int64N(int64(3 * d))))
	pause := 300 * time.Millisecond
	if len(fs) == 1 {
		pause = 60 * time.Millisecond // it is to be found soon
	}
	for time.Now().Before(end) {
		time.Sleep(min(time.Until(end), time.Duration(rng.Int64N(int64(pause)))))
		switch {
		case len(fs) > 1 && c.server != nil && time.Now().After(restart):
			restart = end.Add(d)
			c.restart(rng)
		case len(fs) > 0:
			choose(rng, fs)(c, rng)
		}
	}
}

// killSession ends a session at the server, whatever it is doing.
func (c *crew) killSession(rng *rand.Rand) {
	if c.server == nil {
		return
	}
	ids, err := column[int64](c.bare, c.engine.sessions)
	if err != nil || len(ids) == 0 {
		return
	}
	// An error means that it has ended by itself.
	if _, err := c.bare.Exec(fmt.Sprintf(c.engine.kill, choose(rng, ids))); err == nil {
		c.faults["session killed"]++
	}
}

func (c *crew) killProcess(rng *rand.Rand) {
	c.replace(rng.IntN(len(c.living)))
	c.faults["process killed"]++
}

// freeze stops a process for a while. Some are killed before they wake up.
func (c *crew) freeze(rng *rand.Rand) {
	place := rng.IntN(len(c.living))
	child := c.living[place]
	child.signal(syscall.SIGSTOP)
	c.faults["process frozen"]++
	time.Sleep(time.Duration(rng.Int64N(int64(1500 * time.Millisecond))))
	if rng.IntN(4) == 0 {
		c.replace(place)
		return
	}
	child.signal(syscall.SIGCONT)
}

// cut closes all connections of a process.
func (c *crew) cut(rng *rand.Rand) {
	if c.server != nil {
		choose(rng, c.proxies).cut()
		c.faults["connections cut"]++
	}
}

// swallow has all connections of a process lose what is sent. After a while they are closed, some not before the round is over.
func (c *crew) swallow(rng *rand.Rand) {
	if c.server == nil {
		return
	}
	closed := choose(rng, c.proxies).swallow()
	c.faults["connections swallowed"]++
	time.Sleep(time.Duration(rng.Int64N(int64(time.Second))))
	closed()
}

// restart takes the server away from everybody, by an order or by a crash.
func (c *crew) restart(rng *rand.Rand) {
	if rng.IntN(2) == 0 {
		c.server.Stop(c.t)
		c.faults["restart"]++
	} else {
		c.server.Kill(c.t)
		c.faults["crash"]++
	}
	c.server.Start(c.t)
}
