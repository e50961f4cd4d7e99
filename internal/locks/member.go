package locks

import "time"

// A Member is the place of one operation in a section, whose lock it keeps until
// it leaves. It is in the list of section, or in none and section is nil.
type Member struct {
	section    *Section
	resident   *Resident // that the operation is on; nil if on none
	prev, next *Member
}

// Enter makes m a member, on behalf of an operation on r, which may be nil.
func (s *Section) Enter(m *Member, r *Resident) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return s.ended
	}
	s.add(m, r)
	return nil
}

func (s *Section) add(m *Member, r *Resident) {
	s.moves.move()
	m.section, m.resident, m.prev, m.next = s, r, nil, s.members
	if s.members != nil {
		s.members.prev = m
	}
	s.members = m
}

func (s *Section) remove(m *Member) {
	s.moves.move()
	if m.prev == nil {
		s.members = m.next
	} else {
		m.prev.next = m.next
	}
	if m.next != nil {
		m.next.prev = m.prev
	}
	*m = Member{}
}

// IsFree tells whether it is in no section.
func (m *Member) IsFree() bool { return m.section == nil }

// Leave does nothing the second time.
func (m *Member) Leave() {
	s := m.section
	if s == nil {
		return
	}
	s.mu.Lock()
	s.remove(m)
	s.unlockAndRelease()
}

// Move passes the place on to an operation on r, or on no connection.
func (m *Member) Move(to *Member, r *Resident) {
	s := m.section
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(m)
	s.add(to, r)
}

var _ Worker = (*Section)(nil)

// InOneCall implements [Worker].
func (s *Section) InOneCall() (longest time.Duration) {
	for _, r := range s.residents() {
		longest = max(longest, r.InOneCall())
	}
	return longest
}

// Quiet implements [Worker]. It is as if to enter the section, and to leave it, were a call.
func (s *Section) Quiet() time.Duration {
	_, least := s.moves.look()
	for _, r := range s.residents() {
		least = min(least, r.Quiet())
	}
	return least
}

// BegunBy implements [Worker].
func (s *Section) BegunBy() *Thread {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.thread
}

// residents returns the client connections that are in the middle of something in the section.
func (s *Section) residents() (all []*Resident) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for m := s.members; m != nil; m = m.next {
		if m.resident != nil {
			all = append(all, m.resident)
		}
	}
	return all
}
