package rwlock

import "time"

// look ends the wait if it could not end by itself. Else it returns how long to
// wait until there may be a reason to look again, or for the wait to end.
func (w *waiter) look(bound Wait, again bool) (next time.Duration, err error) {
	waited := now().since(w.since)
	next = bound.Timeout - waited
	if bound.Hopeless != nil {
		next = min(next, max(bound.Self, time.Millisecond))
		if err := w.lookForHope(bound); err != nil {
			return next, err
		}
	}
	if bound.Patience > 0 {
		if err := w.lookForPatience(bound.Patience); err != nil {
			return next, err
		}
		next = min(next, max(bound.Patience, waited/4)) // less and less often: there may be many who wait
	}
	if !w.owned {
		return next, nil
	}
	self, err := w.lookForSelf(bound)
	if err == nil && (!w.looked || w.ownerAwaited() || w.callAwaited()) {
		err = w.lookForDeadlock(bound, again)
	}
	if self > 0 {
		next = min(next, self)
	}
	return next, err
}

// lookForPatience ends the wait if one has had the gate for so long.
func (w *waiter) lookForPatience(patience time.Duration) error {
	w.places.lock()
	for i := range w.places {
		p := &w.places[i]
		if w.done || !p.lock.isGate() || !p.blocked() {
			continue
		}
		for o := p.lock.holders.first; o != nil; o = o.next {
			if o.record(); now().since(o.since) < patience {
				continue
			}
			return w.unlockAndRefuse(&WaitError{
				Key:     p.lock.name,
				Mode:    p.hold.mode,
				Waited:  now().since(w.since),
				Blocker: o.info(readClock()),
				Err:     ErrDeadlock,
			}, nil)
		}
	}
	w.places.unlock()
	return nil
}

// lookForSelf ends the wait if a hold of its own owner, or of one in line with it, has been
// in its way for as long as Wait.Self allows. Else it returns after what time it may be so.
func (w *waiter) lookForSelf(bound Wait) (again time.Duration, err error) {
	w.places.lock()
	if w.done {
		w.places.unlock()
		return bound.Self, nil
	}
	w.askKin(bound)
	at, by := w.places.blockedByOwn()
	if by == nil {
		w.places.unlock()
		return bound.Self, nil // one that comes now is in the way for less than that then
	}
	inTheWay := now().since(max(by.since, w.since))
	if by.Owner != at.hold.Owner && bound.Quiet != nil {
		inTheWay = min(inTheWay, bound.Quiet(by.Work))
	}
	if inTheWay < bound.Self {
		w.places.unlock()
		return bound.Self - inTheWay, nil
	}
	cycle := []*Hold{at.hold, by}
	return 0, w.unlockAndRefuse(deadlockError(cycle, now().since(w.since)), nil)
}

// askKin asks a first time what goes on under the holds in the way whose owners are not alone
// in their line, so that the search knows later for how long it was nothing.
func (w *waiter) askKin(bound Wait) {
	if bound.Quiet == nil {
		return
	}
	for _, p := range w.places {
		for o := p.lock.holders.first; o != nil; o = o.next {
			if o.Owner != nil && o.Owner.hasKin.Load() {
				bound.Quiet(o.Work)
			}
		}
	}
}
