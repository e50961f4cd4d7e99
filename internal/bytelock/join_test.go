//go:build linux || darwin

package bytelock

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestJoin: who works for one who has a lock has it too, whoever waits; and the lock is as strong as the strongest who have it.
func TestJoin(t *testing.T) {
	database := newDatabase(t)
	f, g := open(t, database), open(t, database)
	ann := KeyOf("", "ann")
	if f.Join(ann, Shared) != nil {
		t.Fatal("a lock that nobody has was joined")
	}
	first := lock(t, f, "ann", Shared)
	ctx, cancel := context.WithCancel(within(t))
	waits := later(ctx, g, ann, Exclusive)
	eventually(t, "the other waits", func() bool { return f.keys.tries.look(placeOf(f, ann).door) })
	second := got(t)(f.Join(ann, Shared), nil)
	third := got(t)(f.Join(ann, Exclusive), nil)
	taken(t, g, "ann", Shared)
	third.Release()
	eventually(t, "readers are let in again", func() bool {
		l, _ := g.keys.waits.other(Exclusive, placeOf(g, ann).lock)
		return l == Shared
	})
	first.Release()
	second.Release()
	receive(t, waits).Release()
	cancel()

	mine, other := lock(t, f, "ann", Shared), lock(t, g, "ann", Shared)
	if f.Join(ann, Exclusive) != nil {
		t.Fatal("joined exclusively beside a reader of another process")
	}
	joined := make(chan answer, 1)
	go func() {
		l, err := f.JoinWithin(context.Background(), ann, Exclusive, Wait{Timeout: long})
		joined <- answer{l, err}
	}()
	other.Release()
	receive(t, joined).Release()
	mine.Release()
	if l, err := f.JoinWithin(context.Background(), ann, Exclusive, Wait{Timeout: long}); l != nil || err != nil {
		t.Fatalf("joined %v (%v), want nothing since nobody has it", l, err)
	}
	idle(t, f, g)
}

// TestAllBut: who has the locks of some users gets those of all others, as one who has none gets all.
func TestAllBut(t *testing.T) {
	database := newDatabase(t)
	f, g := open(t, database), open(t, database)
	held := []Key{KeyOf("", "ann"), KeyOf("", "bob")}
	ann, bob, cid := lock(t, f, "ann", Exclusive), lock(t, f, "bob", Exclusive), lock(t, g, "cid", Shared)
	if l, err := f.TryAcquireAll(held); l != nil || err != nil {
		t.Fatalf("all can be had beside a user (%v)", err)
	}
	var w *WaitError
	if _, err := f.AcquireAllWithin(context.Background(), held, Wait{Timeout: 10 * time.Millisecond}); !errors.As(err, &w) || !errors.Is(err, ErrTimeout) {
		t.Fatalf("got %v, want a *WaitError of ErrTimeout", err)
	}
	free(t, g, "dan", Exclusive) // nothing is left of the attempts
	waits := make(chan answer, 1)
	go func() {
		l, err := f.AcquireAllWithin(context.Background(), held, Wait{Timeout: long})
		waits <- answer{l, err}
	}()
	eventually(t, "it is at the global door", func() bool { return g.keys.tries.look(span{globalDoor, 1}) })
	cid.Release()
	all := receive(t, waits)
	for _, user := range []string{"ann", "bob", "cid", "dan"} {
		taken(t, g, user, Shared)
	}
	joined := got(t)(f.Join(All, Exclusive), nil)
	all.Release()
	taken(t, g, "dan", Shared)
	joined.Release()
	free(t, g, "dan", Exclusive)
	taken(t, g, "ann", Shared)
	ann.Release()
	bob.Release()
	idle(t, f, g)
}

// TestWithin: a wait ends when it is told to, and says who was in the way.
func TestWithin(t *testing.T) {
	f := open(t, newDatabase(t))
	h := lock(t, f, "ann", Exclusive)
	stopped := make(chan struct{})
	close(stopped)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range []struct {
		ctx context.Context
		w   Wait
		err error
	}{
		{context.Background(), Wait{}, ErrTimeout},
		{context.Background(), Wait{Timeout: time.Millisecond}, ErrTimeout},
		{context.Background(), Wait{Timeout: long, Stopped: stopped}, ErrStopped},
		{ended, Wait{Timeout: long}, context.Canceled},
	} {
		var w *WaitError
		_, err := f.AcquireWithin(c.ctx, KeyOf("", "ann"), Exclusive, c.w)
		if !errors.As(err, &w) || w.Err != c.err {
			t.Errorf("%+v: got %v, want %v", c.w, err, c.err)
		}
		if c.err == ErrTimeout && c.w.Timeout > 0 && (len(w.Holders) != 1 || w.Holders[0].Mode != Exclusive) {
			t.Errorf("%+v: in the way were %v", c.w, w.Holders)
		}
	}
	h.Release()
	idle(t, f)
}

// TestCreate: an empty file is made where there is none, and one that is there is left alone.
func TestCreate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.db")
	for range 2 {
		if err := Create(path); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o600 != 0o600 {
			t.Fatalf("made %v (%v)", info, err)
		}
		if err := os.WriteFile(path, []byte("data"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if data, _ := os.ReadFile(path); string(data) != "data" {
		t.Errorf("the file has %q", data)
	}
	if err := Create(filepath.Join(path, "no", "directory")); err == nil {
		t.Error("a file was made where no directory is")
	}
}

// TestListen: who has a shared lock for long is told that somebody waits for it, be it in another process.
func TestListen(t *testing.T) {
	database := newDatabase(t)
	f, g := open(t, database), open(t, database)
	told := make(chan Key, 1000)
	stop := f.Listen(func(k Key) {
		select {
		case told <- k:
		default:
		}
	})
	h, other := lock(t, f, "ann", Shared), lock(t, f, "bob", Shared)
	waits := later(within(t), g, KeyOf("", "ann"), Exclusive)
	select {
	case k := <-told:
		if k != KeyOf("", "ann") {
			t.Errorf("told of %v, for which nobody waits", k)
		}
	case <-time.After(long):
		t.Fatal("not told")
	}
	h.Release()
	receive(t, waits).Release()
	other.Release()
	stop()
	if len(f.theListeners()) != 0 {
		t.Error("there are listeners left")
	}
	eventually(t, "nobody looks any more", func() bool { return !f.looking.Load() })
	idle(t, f, g)
}
