package scope

import (
	"context"
	"slices"

	"github.com/calmdocs/dblocker/internal/server"
)

// An Other is a session of another process that has a user's lock.
type Other struct {
	User string // "" for all users' lock
	server.LockHolder
}

// InTheWay returns the sessions of other processes that have what a call wants, the oldest first, asked through sc.
func (s *Scope) InTheWay(ctx context.Context, sc *server.Conn, a Ask) ([]Other, error) {
	locks := s.locks(a)
	return s.others(ctx, sc, locks, func(h server.LockHolder) (user string, is bool) {
		user = s.userOf(a, locks[h.Lock])
		return user, !h.Shared || !locks[h.Lock].Shared
	})
}

// Others returns the sessions of other processes that have the lock of one of the users, or of all users.
func (s *Scope) Others(ctx context.Context, sc *server.Conn, users []string) ([]Other, error) {
	a := Ask{Users: users, Shared: true}
	locks := s.locks(a)
	return s.others(ctx, sc, locks, func(h server.LockHolder) (user string, is bool) {
		user = s.userOf(a, locks[h.Lock])
		return user, user != allUsers || !h.Shared
	})
}

func (s *Scope) others(ctx context.Context, sc *server.Conn, locks []server.WantedLock, are func(server.LockHolder) (user string, is bool)) ([]Other, error) {
	found, err := s.engine.Holders(ctx, sc, locks)
	if err != nil {
		return nil, err
	}
	own := s.table.sessions()
	var others []Other
	for _, h := range found {
		if user, is := are(h); is && !own[h.Session] && (h.Mark == "" || !own[h.Mark]) {
			others = append(others, Other{user, h})
		}
	}
	slices.SortStableFunc(others, func(a, b Other) int { return a.Since.Compare(b.Since) })
	return others, nil
}

// userOf returns whose lock it is of those that were asked for.
func (s *Scope) userOf(a Ask, l server.WantedLock) string {
	for _, user := range a.Users {
		if Key(s.lockspace, user) == l.Key {
			return user
		}
	}
	return allUsers
}

// asks notes that one more session, or one less, asks for locks, of which it may have some already.
func (t *Table) asks(session string, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.asking == nil {
		t.asking = make(map[string]int)
	}
	if t.asking[session] += n; t.asking[session] == 0 {
		delete(t.asking, session)
	}
}

// sessions returns those of the process that have locks, or ask for them.
func (t *Table) sessions() map[string]bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make(map[string]bool)
	for _, grants := range t.grants {
		for _, g := range grants {
			all[g.session] = true
		}
	}
	for session := range t.asking {
		all[session] = true
	}
	return all
}
