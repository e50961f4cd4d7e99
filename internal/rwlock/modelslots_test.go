package rwlock_test

import "slices"

// modelTurns are the turns for a slot of the pool, as the rule says: a group that waits has
// its turn in some pass, and is in line with the others of that pass. Its requests have
// their turns as they came.
type modelTurns struct {
	pass    int         // of the last turn
	line    []int       // the groups that wait, in the order in which they have come into their pass
	passOf  map[int]int // of the next turn of each
	arrived map[int][]*place
}

// modelGroups has the group of each user.
var modelGroups = [modelUsers]int{0, 0, 1, 2, 1, 2, 0, 0}

func (m *model) hasSlot(group int) bool {
	return slices.ContainsFunc(m.held, func(q part) bool { return q.lock == modelPool && q.group == group })
}

// wait adds a place that cannot be granted at once.
func (m *model) waitForSlot(p *place) {
	t := &m.turns
	if t.arrived == nil {
		t.passOf, t.arrived = map[int]int{}, map[int][]*place{}
	}
	if len(t.arrived[p.group]) == 0 {
		t.comeIn(p.group, m.hasSlot(p.group))
	}
	t.arrived[p.group] = append(t.arrived[p.group], p)
	m.queues[modelPool] = t.inTurn()
}

func (t *modelTurns) comeIn(group int, hasSlot bool) {
	t.passOf[group] = t.pass + 1
	if hasSlot {
		t.passOf[group]++
	}
	t.line = append(t.line, group)
}

// leave takes out a place, because it has its turn or gives up.
func (t *modelTurns) leave(p *place, granted bool) {
	i := slices.Index(t.arrived[p.group], p)
	if i < 0 {
		return
	}
	t.arrived[p.group] = slices.Delete(t.arrived[p.group], i, i+1)
	if granted {
		t.pass = t.passOf[p.group]
	}
	if granted || len(t.arrived[p.group]) == 0 {
		t.line = slices.DeleteFunc(t.line, func(g int) bool { return g == p.group })
		if len(t.arrived[p.group]) > 0 {
			t.comeIn(p.group, true)
		}
	}
}

// next returns the group that has the next turn.
func (t *modelTurns) next() int {
	return slices.MinFunc(t.line, func(a, b int) int { return t.passOf[a] - t.passOf[b] })
}

// inTurn returns all that wait as they would have their turns.
func (t *modelTurns) inTurn() (places []*place) {
	trial := modelTurns{pass: t.pass, line: slices.Clone(t.line), passOf: map[int]int{}, arrived: map[int][]*place{}}
	for _, g := range t.line {
		trial.passOf[g], trial.arrived[g] = t.passOf[g], slices.Clone(t.arrived[g])
	}
	for len(trial.line) > 0 {
		p := trial.arrived[trial.next()][0]
		places = append(places, p)
		trial.leave(p, true)
	}
	return places
}
