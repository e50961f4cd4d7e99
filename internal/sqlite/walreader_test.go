package sqlite

import (
	"context"
	"database/sql/driver"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/rwlock"
)

// A fakeWALConn has a read with a row, as often as it is asked.
type fakeWALConn struct{}

func (fakeWALConn) read() (driver.Rows, error) { return new(fakeRows), nil }
func (fakeWALConn) close()                     {}

func (fakeWALConn) open() (walConn, error) { return fakeWALConn{}, nil }

// fakeRows are like those of ncruces/go-sqlite3: they have no row for who has not asked for their columns, as database/sql
// does before the first.
type fakeRows struct{ columns []string }

func (r *fakeRows) Columns() []string {
	r.columns = []string{"1"}
	return r.columns
}

func (r *fakeRows) Next(dest []driver.Value) error {
	dest[0] = r.columns[0]
	return nil
}

func (*fakeRows) Close() error { return nil }

// TestNoteAfterTheLastMark: who has looked at the state of the WALReader before another call
// began the last of the reads comes to its mutex when there are no marks left.
func TestNoteAfterTheLastMark(t *testing.T) {
	g := gate.New("the gate", nil)
	g.SetJournal("wal")
	logger := slog.New(slog.NewTextHandler(io.Discard, nil))
	w := new(WALReader)
	w.Open(g, nil, logger)
	w.connector = fakeWALConn{}
	defer w.Close(true)
	for deadline := time.Now().Add(30 * time.Second); !w.HasAllMarks(); {
		if time.Now().After(deadline) {
			t.Fatal("30 seconds have not been enough to begin four reads in a tenth of one")
		}
		passAlone(t, g)
		w.Note()
	}
	w.seen.Store(noRead) // as that call has seen it
	w.Note()
}

// passAlone has the gate alone, for nothing.
func passAlone(t *testing.T, g *gate.Gate) {
	t.Helper()
	var p gate.Place
	defer p.Leave()
	a := gate.Passage{Gate: g, Mode: rwlock.Exclusive}
	p.Come(g)
	a.Await()
	err := a.Acquire(context.Background(), &p, rwlock.Wait{Timeout: 30 * time.Second})
	a.End(&p, err == nil)
	must(t, err)
}
