package rwlock

import (
	"context"
	"time"
)

// A Label describes a hold to others, and says who is told what becomes of it. It never changes once it is used.
type Label struct {
	Tag  string
	Ctx  context.Context // of the call that the hold is for, if somebody is told; else nil
	Told *Told           // nil if nobody is
}

// Tagged returns a label that says nothing but the tag.
func Tagged(tag string) *Label { return &Label{Tag: tag} }

// Tag returns what the label of the hold says.
func (h *Hold) Tag() string {
	if h.Label == nil {
		return ""
	}
	return h.Label.Tag
}

// takeLabel is for a hold that takes over a grant with the label of. It keeps its own tag; whom that told is told still.
func (h *Hold) takeLabel(of *Label) {
	if of != nil && of.Told != nil && (h.Label == nil || h.Label.Told == nil) {
		h.Label = &Label{Tag: h.Tag(), Ctx: of.Ctx, Told: of.Told}
	}
}

// Told are the functions that are told of it, of which either may be nil. They must neither wait nor call this package.
type Told struct {
	Wait func(WaitEvent) // a wait has begun or ended
	Hold func(Info)      // a hold has ended, which lasted for Info.For
}

// A WaitEvent tells of one that waits, and with Ended set, that it does not any more. What is granted at once, or refused at once,
// is not told of.
type WaitEvent struct {
	Nth     int64 // the number of the wait, by which the two are joined
	Wait    Info  // what is waited for: of several locks, the one where something is in the way when it begins
	Blocker Info  // what is in the way, when it begins or when it was refused
	Ended   bool
	Waited  time.Duration
	Err     error // why it was refused; nil if it was granted

	told func(WaitEvent)
}

// A Form says what a lock is.
type Form uint8

const (
	Keyed   Form = iota // one of a table
	Single              // one that stands for itself
	Gate                // see NewGate
	Limited             // its holders are limited in number
)

func (l *Lock) form() Form {
	switch s := l.shard; {
	case s.keyed:
		return Keyed
	case s.gate:
		return Gate
	case s.slots != nil:
		return Limited
	}
	return Single
}

// TellWait tells whom the label of the hold names of a wait that is none of this package: that it begins, and by the function that
// it returns, that it has ended with that error. What is waited for has the name and the mode. The function is nil if nobody is told.
func (h *Hold) TellWait(name string, form Form, mode Mode) (ended func(error)) {
	label := h.Label
	if label == nil || label.Told == nil || label.Told.Wait == nil {
		return nil
	}
	began := now()
	e := &WaitEvent{Nth: NextWait(), Wait: Info{Key: name, Mode: mode, Form: form, Waiting: true, Kind: h.Kind, Tag: label.Tag, Ctx: label.Ctx}, told: label.Told.Wait}
	e.told(*e)
	return func(err error) { e.tellEnded(began, err) }
}

// NextWait returns the number of a wait that is none of this package, for who is told of all.
func NextWait() int64 { return arrivals.Add(1) }

// label returns the first of those of the holds whose Told is told of waits; nil if there is none.
func (ps places) label() *Label {
	for i := range ps {
		if w := ps[i].hold.Label; w != nil && w.Told != nil && w.Told.Wait != nil {
			return w
		}
	}
	return nil
}

// tellBegun tells of a wait that begins, with the shards locked. It returns what tellEnded needs; nil if nobody is told.
func (w *waiter) tellBegun() *WaitEvent {
	label := w.places.label()
	if label == nil {
		return nil
	}
	at, by := w.places.blocked()
	if by == nil { // it was made ahead meanwhile
		return nil
	}
	clock := readClock()
	e := &WaitEvent{Nth: w.nth, Wait: at.hold.info(clock), Blocker: by.info(clock), told: label.Told.Wait}
	if e.Wait.Ctx == nil {
		e.Wait.Ctx = label.Ctx
	}
	e.told(*e)
	return e
}

// tellEnded tells that the wait has ended with err.
func (e *WaitEvent) tellEnded(since stamp, err error) {
	e.Ended, e.Waited, e.Err = true, now().since(since), err
	if refused, ok := err.(*WaitError); ok {
		e.Wait.Key, e.Wait.Mode, e.Wait.Form = refused.Key, refused.Mode, refused.Form
		e.Blocker, e.Err = refused.Blocker, refused.Err
	}
	e.told(*e)
}

// tellsEnd reports whether somebody is to be told of the end of the hold.
func (h *Hold) tellsEnd() bool {
	return h.Label != nil && h.Label.Told != nil && h.Label.Told.Hold != nil
}

// ctx returns the context of the call that the hold is for, if somebody is told.
func (h *Hold) ctx() context.Context {
	if h.Label == nil {
		return nil
	}
	return h.Label.Ctx
}
