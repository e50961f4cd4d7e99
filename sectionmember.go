package dblocker

import "time"

// A membership is the place of one operation in a section, whose lock it keeps until
// it leaves. It is in the list of section, or in none and section is nil.
type membership struct {
	section    *lockSection
	resident   *resident // that the operation is on; nil if on none
	prev, next *membership
}

// Enter makes m a member, on behalf of an operation on r, which may be nil.
func (s *lockSection) Enter(m *membership, r *resident) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return s.ended
	}
	s.add(m, r)
	return nil
}

func (s *lockSection) add(m *membership, r *resident) {
	s.moves.move()
	m.section, m.resident, m.prev, m.next = s, r, nil, s.members
	if s.members != nil {
		s.members.prev = m
	}
	s.members = m
}

func (s *lockSection) remove(m *membership) {
	s.moves.move()
	if m.prev == nil {
		s.members = m.next
	} else {
		m.prev.next = m.next
	}
	if m.next != nil {
		m.next.prev = m.prev
	}
	*m = membership{}
}

// isFree tells whether it is in no section.
func (m *membership) isFree() bool { return m.section == nil }

// leave does nothing the second time.
func (m *membership) leave() {
	s := m.section
	if s == nil {
		return
	}
	s.mu.Lock()
	s.remove(m)
	s.unlockAndRelease()
}

// move passes the membership on to an operation on r, or on no connection.
func (m *membership) move(to *membership, r *resident) {
	s := m.section
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(m)
	s.add(to, r)
}

var _ worker = (*lockSection)(nil)

// InOneCall implements [worker].
func (s *lockSection) InOneCall() (longest time.Duration) {
	for _, r := range s.residents() {
		longest = max(longest, r.InOneCall())
	}
	return longest
}

// Quiet implements [worker]. It is as if to enter the section, and to leave it, were a call.
func (s *lockSection) Quiet() time.Duration {
	_, least := s.moves.look()
	for _, r := range s.residents() {
		least = min(least, r.Quiet())
	}
	return least
}

// BegunBy implements [worker].
func (s *lockSection) BegunBy() *thread {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.thread
}

// residents returns the client connections that are in the middle of something in the section.
func (s *lockSection) residents() (all []*resident) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for m := s.members; m != nil; m = m.next {
		if m.resident != nil {
			all = append(all, m.resident)
		}
	}
	return all
}
