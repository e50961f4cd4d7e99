package fakedriver

import (
	"errors"
	"strings"
)

// ErrLocked is the error of a lock that another connection has.
var ErrLocked = errors.New("another connection has the lock")

// A sessionLock is what a connection has of a lock, by mode: how often for itself, and whether for its transaction.
type sessionLock struct {
	count map[string]int
	tx    map[string]bool
}

// lock follows the texts by which connections have locks of the server, as those of real servers: "GET key mode",
// "GET key mode TX" until the transaction ends, and "FREE key mode", where the mode is exclusive or shared. They end with the connection.
func (c *conn) lock(query string) (is bool, err error) {
	words := strings.Fields(query)
	if len(words) < 3 || words[0] != "GET" && words[0] != "FREE" {
		return false, nil
	}
	key, mode := words[1], words[2]
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.locks == nil {
		s.locks = make(map[string]map[int]*sessionLock)
	}
	if s.locks[key] == nil {
		s.locks[key] = make(map[int]*sessionLock)
	}
	holders := s.locks[key]
	if words[0] == "FREE" {
		l := holders[c.id]
		if l == nil || l.count[mode] == 0 {
			return true, errors.New("the connection has no such lock")
		}
		l.count[mode]--
		s.forget(key, c.id)
		return true, nil
	}
	for id, l := range holders {
		if id != c.id && (mode == "exclusive" || l.count["exclusive"] > 0 || l.tx["exclusive"]) {
			return true, ErrLocked
		}
	}
	l := holders[c.id]
	if l == nil {
		l = &sessionLock{make(map[string]int), make(map[string]bool)}
		holders[c.id] = l
	}
	if len(words) > 3 {
		l.tx[mode] = true
	} else {
		l.count[mode]++
	}
	return true, nil
}

// forget removes what has nothing. The caller has s.mu.
func (s *Server) forget(key string, id int) {
	l := s.locks[key][id]
	for _, n := range l.count {
		if n > 0 {
			return
		}
	}
	if len(l.tx) == 0 {
		delete(s.locks[key], id)
	}
}

// endTx gives up the locks of a transaction, endLocks all of a connection. The caller of the second has s.mu.
func (c *conn) endTx() {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	for key, holders := range c.s.locks {
		if l := holders[c.id]; l != nil {
			clear(l.tx)
			c.s.forget(key, c.id)
		}
	}
}

func (c *conn) endLocks() {
	for _, holders := range c.s.locks {
		delete(holders, c.id)
	}
}

// Locks returns how many locks connections have.
func (s *Server) Locks() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, holders := range s.locks {
		n += len(holders)
	}
	return n
}
