package gate

import (
	"github.com/calmdocs/dblocker/internal/bytelock"
	"github.com/calmdocs/dblocker/internal/rwlock"
)

// A Place is what an operation has of the gate of its database, and of the gates of
// files that are attached. The zero Place is ready for use, and after Leave it can be used again.
// It must not be copied.
type Place struct {
	Hold rwlock.Hold

	asked    *Gate         // what of it was asked for; nil if nothing
	passed   bool          // it counts as a reader that passes by there
	alone    bool          // it has that for itself
	untagged untaggedPlace // of a transaction without an owner

	attached *Attached // of the gates of attached files; nil if there are none

	among *bytelock.Lock // what it has of the gate among processes; nil if nothing

	list List // that is open while it has the gate for itself; nil if there is none
}

// A List is of those who wait for whoever has the gate for itself to work for them: see package combine.
type List interface {
	Shut() // sends them to the queue of the gate
}

// SetList says which list Leave is to shut; nil for none.
func (p *Place) SetList(l List) { p.list = l }

// Come says that the operation comes to the gate: until it leaves, it may come to have something
// of it.
func (p *Place) Come(g *Gate) { p.asked = g }

// PassBy counts a reader that passes by, if the database lets readers. If the file is about
// to leave WAL mode, it does so only for who has passed by already, and must get on.
func (p *Place) PassBy(getsOn bool) bool {
	g := p.asked
	g.passers.Add(1)
	if wal := g.wal.Load(); wal != walOn && !(getsOn && wal == walLeaving) {
		g.passers.Add(-1)
		return false
	}
	p.passed = true
	return true
}

// Gate returns the gate that the operation has come to; nil if to none.
func (p *Place) Gate() *Gate { return p.asked }

// HasPassed tells whether the operation counts as a reader that passes by.
func (p *Place) HasPassed() bool { return p.passed }

// IsAlone tells whether the operation has the gate for itself.
func (p *Place) IsAlone() bool { return p.alone }

// IsHeld tells whether the operation has a part of a gate that keeps others out.
func (p *Place) IsHeld() bool { return p.Hold.Held() || p.attached.held() }

// Leave gives up all of it. It does nothing the second time.
func (p *Place) Leave() {
	g := p.asked
	if g != nil {
		if g.openings.count.Load() > 0 {
			g.openings.keep(p)
		}
		p.asked = nil
	}
	if p.passed {
		p.passed = false
		g.passers.Add(-1)
	}
	if p.alone {
		p.alone = false
		if l := p.list; l != nil {
			p.list = nil
			l.Shut()
		}
		p.noteWritten(g)
	}
	p.leaveAmong()
	p.untagged.leave()
	p.Hold.Release()
	if a := p.attached; a != nil {
		p.attached = nil
		a.leave()
	}
}

// HandOver gives the gate, which the operation has for itself, and its list, to one that has come to it and is counted as
// a writer. That has nothing of it yet.
func (p *Place) HandOver(to *Place) {
	g := p.asked
	p.alone, to.alone = false, true
	to.list, p.list = p.list, nil
	p.noteWritten(g)
	p.Hold.Move(&to.Hold)
	g.untagged.noteTurn()
}

// noteWritten is for who gives up g, which it had for itself.
func (p *Place) noteWritten(g *Gate) {
	g.barred.Store(false)
	g.writes.Add(1)
	g.writers.Add(-1)
	p.Hold.Owner.NoteWritten()
}

// Move gives all of it to the idle place to.
func (p *Place) Move(to *Place) {
	to.asked, p.asked = p.asked, nil
	to.passed, p.passed = p.passed, false
	to.alone, p.alone = p.alone, false
	to.untagged, p.untagged = p.untagged, untaggedPlace{}
	to.attached, p.attached = p.attached, nil
	to.among, p.among = p.among, nil
	to.list, p.list = p.list, nil
	p.Hold.Move(&to.Hold)
}

// Describe says whose it is and what for, as the fields of a Hold do.
func (p *Place) Describe(owner *rwlock.Owner, kind rwlock.Kind, label *rwlock.Label, work any) {
	p.Hold.Owner, p.Hold.Kind, p.Hold.Label, p.Hold.Work = owner, kind, label, work
	if p.attached != nil {
		p.attached.describe(&p.Hold)
	}
}

// setOwner sets the owner of the idle holds.
func (p *Place) setOwner(o *rwlock.Owner) {
	p.Hold.Owner = o
	if a := p.attached; a != nil {
		for i := range a.holds {
			a.holds[i].Owner = o
		}
	}
}

// changeOwner changes it of those that have been granted.
func (p *Place) changeOwner(o *rwlock.Owner) {
	p.Hold.SetOwner(o)
	if a := p.attached; a != nil {
		for i := range a.holds {
			a.holds[i].SetOwner(o)
		}
	}
}
