package walsync

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// A disk stands in for that of a Log, whose syncs last until they are let go.
type disk struct {
	log       Log
	wal       string
	committed atomic.Int64 // since the WAL is there
	safe      atomic.Int64 // of those, on disk
	syncs     atomic.Int64 // that have begun
	dirs      []string
	err       error         // of the next syncs
	hold      chan struct{} // a value lets one sync go on; nil if they take no time
}

// newDisk makes a disk, and Logs of the package sync there until the test ends.
func newDisk(t *testing.T) *disk {
	t.Helper()
	d := new(disk)
	database := filepath.Join(t.TempDir(), "app.db")
	d.wal = database + "-wal"
	d.makeWAL(t)
	d.log.Place(database)
	wasFile, wasDir := SyncFile, SyncDir
	SyncFile = func(f *os.File) error {
		covers := d.committed.Load()
		d.syncs.Add(1)
		if d.hold != nil {
			<-d.hold
		}
		if d.err != nil {
			return d.err
		}
		d.safe.Store(covers)
		return nil
	}
	SyncDir = func(dir string) error {
		d.dirs = append(d.dirs, dir)
		return nil
	}
	t.Cleanup(func() {
		SyncFile, SyncDir = wasFile, wasDir
		d.log.Close()
	})
	return d
}

func (d *disk) makeWAL(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(d.wal, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// commit commits, and returns what to wait for and how much must be on disk then.
func (d *disk) commit() (m Mark, number int64) {
	number = d.committed.Add(1)
	return d.log.Mark(), number
}

// answers begins a wait, and returns the channel with what comes of it.
func (d *disk) answers(t *testing.T, ctx context.Context) chan error {
	m, number := d.commit()
	answer := make(chan error, 1)
	go func() {
		err := d.log.Wait(ctx, m)
		if safe := d.safe.Load(); err == nil && safe < number {
			t.Errorf("commit %d was answered with %d on disk", number, safe)
		}
		answer <- err
	}()
	return answer
}

func isAnswered(answer chan error) bool { return len(answer) > 0 }

// TestAnswersComeAfterALaterSync: a sync that has begun before a commit does not answer for it, though the commit is in the file.
func TestAnswersComeAfterALaterSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(t)
		d.hold = make(chan struct{})
		first := d.answers(t, t.Context())
		synctest.Wait()
		second := d.answers(t, t.Context())
		synctest.Wait()
		d.hold <- struct{}{}
		synctest.Wait()
		if !isAnswered(first) || isAnswered(second) {
			t.Errorf("after the first sync: first answered %v, second %v", isAnswered(first), isAnswered(second))
		}
		d.hold <- struct{}{}
		if err := errors.Join(<-first, <-second); err != nil || d.syncs.Load() != 2 {
			t.Errorf("%v after %d syncs, want 2", err, d.syncs.Load())
		}
	})
}

// TestOneSyncServesAll: all who come while one sync lasts share the next.
func TestOneSyncServesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(t)
		d.hold = make(chan struct{}, 2)
		answers := []chan error{d.answers(t, t.Context())}
		synctest.Wait()
		for range 50 {
			answers = append(answers, d.answers(t, t.Context()))
		}
		synctest.Wait()
		d.hold <- struct{}{}
		d.hold <- struct{}{}
		for _, a := range answers {
			if err := <-a; err != nil {
				t.Error(err)
			}
		}
		if d.syncs.Load() != 2 || d.log.Syncs() != 2 {
			t.Errorf("%d syncs, counted %d, want 2", d.syncs.Load(), d.log.Syncs())
		}
	})
}

// TestLateWaitIsServedByWhatHasBegunSince: who is late to wait needs no sync more than began after his commit.
func TestLateWaitIsServedByWhatHasBegunSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(t)
		late, _ := d.commit()
		if err := <-d.answers(t, t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := d.log.Wait(t.Context(), late); err != nil || d.syncs.Load() != 1 {
			t.Errorf("after a sync that had begun after it: %v, %d syncs, want 1", err, d.syncs.Load())
		}
		d.hold = make(chan struct{})
		late, _ = d.commit()
		other := d.answers(t, t.Context())
		synctest.Wait()
		running := make(chan error, 1)
		go func() { running <- d.log.Wait(t.Context(), late) }()
		synctest.Wait()
		d.hold <- struct{}{}
		if err := errors.Join(<-other, <-running); err != nil || d.syncs.Load() != 2 {
			t.Errorf("while one runs that had begun after it: %v, %d syncs, want 2", err, d.syncs.Load())
		}
	})
}

// TestNotify: it begins a sync as Wait does, and tells of the one that began after the mark, also if it fails, or is not needed.
func TestNotify(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(t)
		d.hold = make(chan struct{})
		told := make(chan string, 10)
		notify := func(name string) {
			m, number := d.commit()
			d.log.Notify(m, 1, nil, func() {
				if safe := d.safe.Load(); safe < number && d.log.Failed() == nil {
					t.Errorf("%s: told with %d on disk, of %d", name, safe, number)
				}
				told <- name
			})
		}
		notify("first")
		synctest.Wait()
		notify("second")
		notify("third")
		synctest.Wait()
		if len(told) > 0 {
			t.Errorf("told before the sync: %s", <-told)
		}
		d.hold <- struct{}{}
		synctest.Wait()
		if len(told) != 1 {
			t.Errorf("%d told after the first sync, want 1", len(told))
		}
		late, _ := d.commit()
		d.hold <- struct{}{}
		synctest.Wait()
		if len(told) != 3 || d.syncs.Load() != 2 {
			t.Errorf("%d told after %d syncs, want 3 after 2", len(told), d.syncs.Load())
		}
		d.err = errors.New("no disk")
		notify("fails")
		synctest.Wait()
		notify("is not tried")
		d.hold <- struct{}{}
		synctest.Wait()
		notify("comes later")
		d.log.Notify(late, 1, nil, func() { told <- "late" })
		if len(told) != 7 {
			t.Errorf("%d told after the failure, want 7", len(told))
		}
	})
}

// TestContextEndsTheWait: and neither the sync nor the waits of others.
func TestContextEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(t)
		d.hold = make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		leaves := []chan error{d.answers(t, ctx)}
		synctest.Wait()
		leaves = append(leaves, d.answers(t, ctx))
		stays := d.answers(t, t.Context())
		synctest.Wait()
		cancel()
		for _, a := range leaves {
			if err := <-a; err != context.Canceled {
				t.Errorf("whose context has ended: %v", err)
			}
		}
		d.hold <- struct{}{}
		d.hold <- struct{}{}
		if err := <-stays; err != nil {
			t.Errorf("who stays: %v", err)
		}
	})
}

// TestAllMayLeave: a sync that nobody waits for any more ends, and the next begins as the first.
func TestAllMayLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(t)
		d.hold = make(chan struct{}, 2)
		ctx, cancel := context.WithCancel(t.Context())
		leaves := d.answers(t, ctx)
		synctest.Wait()
		cancel()
		<-leaves
		d.hold <- struct{}{}
		synctest.Wait()
		d.hold <- struct{}{}
		if err := <-d.answers(t, t.Context()); err != nil || d.syncs.Load() != 2 {
			t.Errorf("%v after %d syncs, want 2", err, d.syncs.Load())
		}
	})
}

// TestFailureLasts: it is the answer to all who waited, and to all later ones until Restore, without another sync; but not to those
// whom an earlier sync has served.
func TestFailureLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(t)
		served, _ := d.commit()
		if err := <-d.answers(t, t.Context()); err != nil {
			t.Fatal(err)
		}
		d.hold, d.err = make(chan struct{}), errors.New("no disk")
		answers := []chan error{d.answers(t, t.Context())}
		synctest.Wait()
		answers = append(answers, d.answers(t, t.Context())) // of the next sync, which is not tried
		synctest.Wait()
		d.hold <- struct{}{}
		synctest.Wait()
		d.err, d.hold = nil, nil
		answers = append(answers, d.answers(t, t.Context()))
		for i, a := range answers {
			if err := <-a; !errors.As(err, new(*Error)) || d.log.Failed() == nil {
				t.Errorf("wait %d: %v, Failed: %v", i, err, d.log.Failed())
			}
		}
		if err := d.log.Wait(t.Context(), served); err != nil {
			t.Errorf("what was on disk before: %v", err)
		}
		if d.syncs.Load() != 2 {
			t.Errorf("%d syncs, want 2: none after the failure", d.syncs.Load())
		}
		d.log.Restore()
		if err := <-d.answers(t, t.Context()); err != nil || d.log.Failed() != nil {
			t.Errorf("after Restore: %v, Failed: %v", err, d.log.Failed())
		}
	})
}

// TestDirectoryIsSyncedOnceForEachWAL, before that, also if it fails at first.
func TestDirectoryIsSyncedOnceForEachWAL(t *testing.T) {
	d := newDisk(t)
	wait := func() error { m, _ := d.commit(); return d.log.Wait(t.Context(), m) }
	for range 3 {
		if err := wait(); err != nil {
			t.Fatal(err)
		}
	}
	if len(d.dirs) != 1 || d.dirs[0] != filepath.Dir(d.wal) {
		t.Errorf("directories synced: %q, want that of %s once", d.dirs, d.wal)
	}
	os.Remove(d.wal)
	if err := wait(); err != nil || d.syncs.Load() != 3 {
		t.Errorf("without a WAL: %v, %d syncs of it, want 3", err, d.syncs.Load())
	}
	d.makeWAL(t)
	if err := wait(); err != nil || d.syncs.Load() != 4 || len(d.dirs) != 2 {
		t.Errorf("with a new WAL: %v, %d syncs, want 4, directories synced: %q", err, d.syncs.Load(), d.dirs)
	}
}

// TestNewWALIsFollowed: what is synced is the file that is there, also if it was replaced unseen.
func TestNewWALIsFollowed(t *testing.T) {
	d := newDisk(t)
	var synced os.FileInfo
	inner := SyncFile
	SyncFile = func(f *os.File) error {
		synced, _ = f.Stat()
		return inner(f)
	}
	if there, err := d.log.Follow(); !there || err != nil {
		t.Fatal(there, err)
	}
	for range 3 {
		m, _ := d.commit()
		if err := d.log.Wait(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		if there, err := os.Stat(d.wal); err != nil || !os.SameFile(there, synced) {
			t.Errorf("another file was synced than is there (%v)", err)
		}
		os.Remove(d.wal)
		d.makeWAL(t)
	}
}

// TestSyncWhileTheWALIsReplaced: the descriptor that a sync is about to use may be closed by who follows the WAL to another
// file; that is no failure.
func TestSyncWhileTheWALIsReplaced(t *testing.T) {
	d := newDisk(t)
	replaced := false
	inner := SyncFile
	SyncFile = func(f *os.File) error {
		if !replaced {
			replaced = true
			os.Remove(d.wal)
			d.makeWAL(t)
			d.log.Follow()
		}
		if _, err := f.Stat(); err != nil {
			return err
		}
		return inner(f)
	}
	m, _ := d.commit()
	if err := d.log.Wait(t.Context(), m); err != nil {
		t.Error(err)
	}
}

// TestUnreachableWALIsNoFailedSync: nothing was lost, so the next sync may do.
func TestUnreachableWALIsNoFailedSync(t *testing.T) {
	d := newDisk(t)
	os.Remove(d.wal)
	if err := os.Symlink(d.wal, d.wal); err != nil { // a circle
		t.Skip(err)
	}
	m, _ := d.commit()
	if err := d.log.Wait(t.Context(), m); err == nil || d.log.Failed() != nil {
		t.Errorf("%v, Failed: %v", err, d.log.Failed())
	}
	os.Remove(d.wal)
	d.makeWAL(t)
	if err := d.log.Wait(t.Context(), m); err != nil {
		t.Error(err)
	}
}

// TestNoFileNeedsNoSync: a database in memory.
func TestNoFileNeedsNoSync(t *testing.T) {
	var l Log
	if err := l.Wait(t.Context(), l.Mark()); err != nil || l.Syncs() != 0 {
		t.Error(err, l.Syncs())
	}
}

// TestClosedWhileASyncRuns: that nobody waits for any more. It leaves no descriptor, and no goroutine.
func TestClosedWhileASyncRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(t)
		ctx, cancel := context.WithCancel(t.Context())
		leaves := make(chan error, 1)
		tries := 0
		SyncFile = func(f *os.File) error {
			tries++
			cancel()
			<-leaves
			d.log.Close()
			_, err := f.Stat()
			return err
		}
		m, _ := d.commit()
		leaves <- d.log.Wait(ctx, m)
		synctest.Wait()
		if d.log.file.open != nil || tries != 1 {
			t.Errorf("open: %v, after %d tries", d.log.file.open, tries)
		}
	})
}

// TestWaitsUnderLoad: many commit, with one writer at a time as SQLite has, and real syncs.
func TestWaitsUnderLoad(t *testing.T) {
	d := newDisk(t)
	var writer sync.Mutex
	committed, safe := 0, 0
	SyncFile = func(f *os.File) error {
		writer.Lock()
		covers := committed
		writer.Unlock()
		err := syncFile(f)
		writer.Lock()
		safe = covers
		writer.Unlock()
		return err
	}
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range 50 {
				writer.Lock()
				committed++
				number := committed
				m := d.log.Mark()
				writer.Unlock()
				err := d.log.Wait(t.Context(), m)
				writer.Lock()
				if err != nil || safe < number {
					t.Errorf("commit %d was answered (%v) with %d on disk", number, err, safe)
				}
				writer.Unlock()
			}
		})
	}
	all.Wait()
	if n := d.log.Syncs(); n > 800 {
		t.Errorf("%d syncs for 800 commits", n)
	}
}
