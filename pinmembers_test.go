package dblocker

import "testing"

// TestConnectPanicInPinnedSection: a driver that panics leaves no member in the section.
func TestConnectPanicInPinnedSection(t *testing.T) {
	s := &stub{}
	db := openStub(t, s)
	ctx, unlock, err := Lock(asUser(1), db, Pin())
	must(t, err)
	s.connect = func() { panic("connect") }
	func() {
		defer func() { recover() }()
		db.ExecContext(ctx, "UPDATE t SET v = 1")
	}()
	s.connect = nil
	unlock()
	if !isFree(t, db, 1) {
		t.Error("the lock did not pass on")
	}
}

