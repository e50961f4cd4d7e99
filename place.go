package dblocker

import "github.com/calmdocs/dblocker/internal/rwlock"

// A place is what an operation has of the gate of a SQLite database, and of the gates of
// files that are attached.
type place struct {
	hold   rwlock.Hold
	asked  *gate      // what of it was asked for; nil if nothing
	passed bool       // it counts as a reader that passes by there
	alone  bool       // it has that for itself
	crowd  crowdPlace // in the crowd of the gate

	attached *attachedHolds // of the gates of attached files; nil if there are none
}

// leave gives up all of it. It does nothing the second time.
func (p *place) leave() {
	g := p.asked
	if g != nil {
		if g.left.count.Load() > 0 {
			g.left.keep(p)
		}
		p.asked = nil
	}
	if p.passed {
		p.passed = false
		g.passers.Add(-1)
	}
	if p.alone {
		p.alone = false
		g.barred.Store(false)
		g.writes.Add(1)
		g.writers.Add(-1)
	}
	p.crowd.leave()
	p.hold.Release()
	if a := p.attached; a != nil {
		p.attached = nil
		a.leave()
	}
}

// isHeld tells whether the operation has a part of a gate that keeps others out.
func (p *place) isHeld() bool { return p.hold.Held() || p.attached.held() }

// move gives all of it to the idle place to.
func (p *place) move(to *place) {
	to.asked, p.asked = p.asked, nil
	to.passed, p.passed = p.passed, false
	to.alone, p.alone = p.alone, false
	to.crowd, p.crowd = p.crowd, crowdPlace{}
	to.attached, p.attached = p.attached, nil
	p.hold.Move(&to.hold)
}

// describe says whose and what for it is, as like does.
func (p *place) describe(like *rwlock.Hold) {
	p.hold.Owner, p.hold.Kind, p.hold.Tag, p.hold.Work = like.Owner, like.Kind, like.Tag, like.Work
	if p.attached != nil {
		p.attached.describe(&p.hold)
	}
}
