package gate

import "testing"

type visitor struct{ rests, idle int }

func (v *visitor) Rest()          { v.rests++ }
func (v *visitor) CloseIdle() int { return v.idle }

// TestVisitorsAreAskedUntilTheyLeave, and one that has come twice until it has left twice.
func TestVisitorsAreAskedUntilTheyLeave(t *testing.T) {
	g := New("gate", nil)
	a, b := &visitor{idle: 1}, &visitor{idle: 10}
	leaveA, leaveB, leaveAgain := g.Register(a), g.Register(b), g.Register(b)
	if n := g.CloseIdle(); n != 21 {
		t.Errorf("with all of them there are %d connections left, want 21", n)
	}
	leaveA()
	leaveB()
	g.Rest()
	if n := g.CloseIdle(); n != 10 || a.rests != 0 || b.rests != 1 {
		t.Errorf("%d connections are left, want 10; who has left was asked %d times, who has not %d times", n, a.rests, b.rests)
	}
	leaveAgain()
	if n := g.CloseIdle(); n != 0 {
		t.Errorf("%d connections are left when all have left", n)
	}
}
