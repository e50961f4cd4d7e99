package locks

import (
	"context"
	"os"
	"slices"
	"time"

	"github.com/calmdocs/dblocker/internal/bytelock"
	"github.com/calmdocs/dblocker/internal/rwlock"
)

// On SQLite users' locks may reach to other processes, by bytes of a file beside the database: see package bytelock. Who
// has a user's lock of this process then takes that among processes, which belongs to the process and to no
// connection, and gives it up first. So of those who have it in one process nobody is kept out by another of them: if one has an
// exclusive lock of the process, all who have the byte are of its owner's line, and it joins them.

// A byteReach is by which bytes the locks of a table reach.
type byteReach struct {
	file      *bytelock.File
	lockspace string
}

func (r *byteReach) key(user string) bytelock.Key { return bytelock.KeyOf(r.lockspace, user) }

// ReachBy has the locks of the table reach to all processes that lock bytes of the file.
func (t *Table) ReachBy(file *bytelock.File, lockspace string) {
	t.bytes.Store(&byteReach{file, lockspace})
}

// ReachUserBy is ReachBy for the lock of one user, where each has a file of his own, until it is undone as often as it was done.
func (t *Table) ReachUserBy(user string, file *bytelock.File, lockspace string) (undo func()) {
	t.reachMu.Lock()
	defer t.reachMu.Unlock()
	r := t.bytesOf[user]
	if r == nil || r.file != file {
		if t.bytesOf == nil {
			t.bytesOf = make(map[string]*userReach)
		}
		r = &userReach{byteReach: byteReach{file, lockspace}}
		t.bytesOf[user] = r
	}
	r.times++
	return func() { t.unreach(user, r) }
}

func (t *Table) unreach(user string, r *userReach) {
	t.reachMu.Lock()
	defer t.reachMu.Unlock()
	if r.times--; r.times == 0 && t.bytesOf[user] == r {
		delete(t.bytesOf, user)
	}
}

// A userReach is by which bytes the lock of one user reaches.
type userReach struct {
	byteReach
	times int // it is asked for
}

// reachOf returns by which bytes the lock of a user reaches, which it does.
func (t *Table) reachOf(user string) *byteReach {
	if r := t.bytes.Load(); r != nil {
		return r
	}
	t.reachMu.RLock()
	defer t.reachMu.RUnlock()
	if r := t.bytesOf[user]; r != nil {
		return &r.byteReach
	}
	return nil
}

// ReachesByBytes tells whether the lock of a user does.
func (t *Table) ReachesByBytes(user string) bool { return t.reachOf(user) != nil }

// Key returns the key of a user's byte.
func (t *Table) Key(user string) bytelock.Key { return t.reachOf(user).key(user) }

// Among returns the other processes that have a user's lock, as far as that can be told.
func (t *Table) Among(user string) []bytelock.Holder {
	r := t.reachOf(user)
	return others(r.file.Holders(r.key(user)))
}

// AmongAll returns those that have any user's.
func (t *Table) AmongAll() []bytelock.Holder { return others(t.bytes.Load().file.AllHolders()) }

func others(holders []bytelock.Holder) []bytelock.Holder {
	return slices.DeleteFunc(holders, func(h bytelock.Holder) bool { return h.PID == os.Getpid() || h.PID == 0 })
}

// AskToYield asks those to make way who have the lock of the user of that key, as far as they can: another process waits for it.
func (t *Table) AskToYield(k bytelock.Key) {
	for _, i := range t.users.Snapshot() {
		if !i.Waiting && t.ReachesByBytes(i.Key) && t.Key(i.Key) == k {
			askToYield(i.Work)
		}
	}
}

func askToYield(work any) {
	if y, ok := work.(rwlock.Yielder); ok {
		go y.Yield()
	}
}

// byteMode is a mode as package bytelock has it.
func byteMode(m rwlock.Mode) bytelock.Mode {
	if m == rwlock.Shared {
		return bytelock.Shared
	}
	return bytelock.Exclusive
}

// TryReach takes for h, which has its user's lock of this process, that among processes, if that needs no wait.
func (t *Table) TryReach(h *Hold) (ok bool, err error) {
	mode, held := h.Lock.HeldMode()
	if !held || h.Reach != nil {
		return true, nil
	}
	l, err := t.tryByte(h.User, mode)
	if l == nil && err == nil && mode == rwlock.Shared && h.Lock.HasKin() {
		r := t.reachOf(h.User)
		l = r.file.Join(r.key(h.User), bytelock.Shared)
	}
	if l == nil || err != nil {
		return false, err
	}
	h.Reach = l
	return true, nil
}

// TryReachAs is TryReach for who has an exclusive lock of the user by other means.
func (t *Table) TryReachAs(user string, mode rwlock.Mode) (Reach, error) {
	l, err := t.tryByte(user, mode)
	if l == nil {
		return nil, err
	}
	return l, err
}

// tryByte returns nil if it would have to wait.
func (t *Table) tryByte(user string, mode rwlock.Mode) (*bytelock.Lock, error) {
	r := t.reachOf(user)
	k, m := r.key(user), byteMode(mode)
	if l, err := r.file.TryAcquire(k, m); l != nil || err != nil {
		return l, err
	}
	if l := r.file.Join(bytelock.All, bytelock.Exclusive); l != nil { // whoever has a lock of this process now is in line with who has all
		return l, nil
	}
	if m == bytelock.Exclusive {
		return r.file.Join(k, m), nil
	}
	return nil, nil
}

// AwaitReach is TryReach for who waits. Rows of its owner that are in its way have been read into memory.
func (t *Table) AwaitReach(ctx context.Context, h *Hold, w bytelock.Wait) error {
	mode, _ := h.Lock.HeldMode()
	r := t.reachOf(h.User)
	k, m := r.key(h.User), byteMode(mode)
	if m == bytelock.Exclusive {
		if l, err := r.file.JoinWithin(ctx, k, m, w); l != nil || err != nil {
			return h.reachBy(l, err)
		}
	}
	return h.reachBy(r.file.AcquireWithin(ctx, k, m, w))
}

func (h *Hold) reachBy(l *bytelock.Lock, err error) error {
	if l != nil {
		h.Reach = l
	}
	return err
}

// ReachByBytes takes for the section, which has just been begun, the locks among processes of what it has taken itself. The user is
// that of the lock which could not be had; "" if it is that of all.
func (s *Section) ReachByBytes(w bytelock.Wait) (user string, err error) {
	var m Member // so that nothing is given up meanwhile, should the context end
	if err := s.Enter(&m, nil); err != nil {
		return "", err
	}
	defer m.Leave()
	users, all := s.Taken()
	if all {
		return "", s.reachAll(w)
	}
	w.Inside = w.Inside || s.outer != nil
	holds := s.more
	if holds == nil && len(users) == 1 {
		s.hold.User = users[0]
		holds = []*Hold{&s.hold}
	}
	for _, h := range holds { // in the order of their users, as everybody
		if err := s.reachOne(h, w); err != nil {
			return h.User, err
		}
		w.Inside = true
	}
	return "", nil
}

func (s *Section) reachOne(h *Hold, w bytelock.Wait) error {
	ok, err := s.table.TryReach(h)
	if !ok && err == nil && w.Timeout <= 0 {
		return s.tryAgain(h)
	}
	if ok || err != nil {
		return err
	}
	return s.table.AwaitReach(s.parent, h, w)
}

// tryTime is for how long a section that does not wait tries to have a lock: a wait that has ended may leave a thread behind, which
// gets the lock and gives it back at once.
const tryTime = 2 * time.Millisecond

func (s *Section) tryAgain(h *Hold) error {
	for until := time.Now().Add(tryTime); time.Now().Before(until); {
		time.Sleep(tryTime / 10)
		if ok, err := s.table.TryReach(h); ok || err != nil {
			return err
		}
	}
	return &bytelock.WaitError{Err: bytelock.ErrTimeout}
}

// reachAll takes the locks of all users, but those that the sections have which it was begun inside.
func (s *Section) reachAll(w bytelock.Wait) error {
	file := s.table.bytes.Load().file
	var held []bytelock.Key
	for o := s.outer; o != nil; o = o.outer {
		if o.table == s.table {
			users, _ := o.Taken()
			for _, user := range users {
				held = append(held, s.table.Key(user))
			}
		}
	}
	l, err := file.TryAcquireAll(held)
	if l == nil && err == nil {
		l, err = file.AcquireAllWithin(s.parent, held, w)
	}
	return s.hold.reachBy(l, err)
}
