package chaos

import "time"

// disturb lasts as long as the round. Its faults are those that come from outside of
// the requests.
func (w *world) disturb(d time.Duration, faults bool) {
	end := time.Now().Add(d)
	if !faults {
		time.Sleep(d)
		return
	}
	restart := time.Now().Add(time.Duration(w.rng.Int64N(int64(d * 3 / 2)))) // in two rounds of three
	for time.Now().Before(end) {
		time.Sleep(time.Duration(w.rng.Int64N(int64(100 * time.Millisecond))))
		switch {
		case w.server != nil && time.Now().After(restart):
			restart = end
			w.restart()
		case w.rng.IntN(4) == 0:
			w.reopen()
		case w.server != nil:
			w.kill()
		}
	}
}

// restart takes the server away from everybody, by an order or by a crash.
func (w *world) restart() {
	if w.rng.IntN(2) == 0 {
		w.server.Stop(w.t)
		w.faults["restart"]++
	} else {
		w.server.Kill(w.t)
		w.faults["crash"]++
	}
	w.server.Start(w.t)
}

// kill ends a session on the server, whatever it is doing.
func (w *world) kill() {
	if w.engine.killSession(w.dsn, w.rng.IntN) {
		w.faults["kill"]++
	}
}

// reopen closes a handle under those who work with it, and opens another.
func (w *world) reopen() {
	i := w.rng.IntN(handles)
	old := w.open[i].Swap(w.newHandle(lockTimeout, connections[i]))
	w.countCombined(old)
	w.calls.do("DB.Close", old.Close) // which reports idle connections that had been killed
	w.closed = append(w.closed, old)
	w.faults["close"]++
}
