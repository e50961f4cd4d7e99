package rwlock

// inTheWay is a holder of the lock of a place that is not free.
type inTheWay struct {
	at *place
	by *Hold
}

// lookForHope ends the wait if Wait.Hopeless says that it will never end.
func (w *waiter) lookForHope(bound Wait) error {
	holders, work := w.holdersInTheWay()
	if len(holders) == 0 {
		return nil
	}
	i := bound.Hopeless(work, now().since(w.since), bound.Self)
	if i < 0 {
		return nil
	}
	at, by := holders[i].at, holders[i].by
	w.places.lock()
	if w.done || by.lock.Load() != at.lock || by.wait != nil || by.Work != work[i] {
		w.places.unlock()
		return nil // it has gone on
	}
	return w.unlockAndRefuse(&WaitError{
		Key:      at.lock.name,
		Mode:     at.hold.mode,
		Waited:   now().since(w.since),
		Held:     at.lock.holds(at.hold.Owner),
		Blocker:  by.info(readClock()),
		Hopeless: true,
		Err:      ErrDeadlock,
	}, nil)
}

// holdersInTheWay returns the holders with a Work of the locks that the waiter cannot have
// now, and their Work. Who is in the way only of those that come before the waiter is in
// its way too.
func (w *waiter) holdersInTheWay() (holders []inTheWay, work []any) {
	w.places.lock()
	defer w.places.unlock()
	if w.done {
		return nil, nil
	}
	holders, work = w.holderRoom[:0], w.workRoom[:0]
	for i := range w.places {
		p := &w.places[i]
		if !p.blocked() {
			continue
		}
		for o := p.lock.holders.first; o != nil; o = o.next {
			if o.Work != nil {
				holders, work = append(holders, inTheWay{p, o}), append(work, o.Work)
			}
		}
	}
	return holders, work
}
