package server

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

// A fakeRows has result sets of one column. It passes their values in one buffer, as some drivers do.
type fakeRows struct {
	sets   [][]string
	fails  error // at the end of the last set; nil for io.EOF
	panics bool  // there, instead
	buffer []byte
	closed bool
}

func (r *fakeRows) Columns() []string { return []string{"v"} }
func (r *fakeRows) Close() error      { r.closed = true; return nil }

func (r *fakeRows) Next(dest []driver.Value) error {
	if len(r.sets[0]) == 0 {
		switch {
		case len(r.sets) > 1 || r.fails == nil && !r.panics:
			return io.EOF
		case r.panics:
			panic("in Next")
		}
		return r.fails
	}
	r.buffer = append(r.buffer[:0], r.sets[0][0]...)
	r.sets[0] = r.sets[0][1:]
	dest[0] = r.buffer
	return nil
}

func (r *fakeRows) HasNextResultSet() bool { return len(r.sets) > 1 }

func (r *fakeRows) NextResultSet() error {
	if len(r.sets) == 1 {
		return io.EOF
	}
	r.sets = r.sets[1:]
	return nil
}

// A client has rows. It marks the errors that it explains.
type client struct {
	RowsClient // of which no more is called than the following
	handle     HandleRows
}

func (c *client) Handle() *HandleRows          { return &c.handle }
func (c *client) ExplainFetch(err error) error { return fmt.Errorf("explained: %w", err) }
func (c *client) ExplainClose(err error) error { return err }

func rowsOver(inner driver.Rows) (*Rows, *client) {
	c := new(client)
	r := &Rows{Inner: inner, Client: c}
	r.CopyValues()
	return r, c
}

// transcript is what a program sees of rows. Before each call it lets between run.
func transcript(r *Rows, between func(call int)) string {
	var seen []string
	var held [][]byte // values that the program still looks at
	dest := make([]driver.Value, 1)
	for call := 0; ; call++ {
		between(call)
		err := r.Next(dest)
		switch {
		case err == nil:
			held = append(held[:0], dest[0].([]byte))
			between(call + 1000)
			seen = append(seen, string(held[0]))
			continue
		case err != io.EOF:
			seen = append(seen, err.Error())
		}
		if !r.HasNextResultSet() || r.NextResultSet() != nil {
			break
		}
		seen = append(seen, "next set")
	}
	return strings.Join(append(seen, fmt.Sprint(r.Close())), ", ")
}

// TestRowsAreTheSameFromMemory: wherever the rest of rows is read ahead, all of it or a part, the program sees what it
// would have seen.
func TestRowsAreTheSameFromMemory(t *testing.T) {
	inner := func() *fakeRows {
		return &fakeRows{sets: [][]string{{"a", "bb", "c"}, {}, {"d", "e"}}, fails: errors.New("broken")}
	}
	bare, _ := rowsOver(inner())
	want := transcript(bare, func(int) {})
	if want != "a, bb, c, next set, next set, d, e, explained: broken, <nil>" {
		t.Fatalf("nothing read ahead: %s", want)
	}
	for at := range 10 {
		for _, call := range []int{at, at + 1000} {
			for _, most := range []int{1, 2, 100} {
				r, c := rowsOver(inner())
				got := transcript(r, func(now int) {
					if now == call {
						n := 0
						r.Fill(FillLimit{1 << 20, 1 << 20}, func() bool { n++; return n > most })
					}
				})
				if got != want {
					t.Errorf("read ahead at call %d, %d steps: %s; want %s", call, most, got, want)
				}
				if n := c.handle.InMemory.Load(); n != 0 {
					t.Errorf("read ahead at call %d: %d bytes are counted after Close", call, n)
				}
			}
		}
	}
}

// TestFillEnds at the end of the rows, at a limit, or when it is told to.
func TestFillEnds(t *testing.T) {
	never := func() bool { return false }
	for _, test := range []struct {
		limit FillLimit
		stop  func() bool
		want  FillEnd
	}{
		{FillLimit{1 << 20, 1 << 20}, never, FillDone},
		{FillLimit{20, 1 << 20}, never, FillFull},
		{FillLimit{1 << 20, 20}, never, FillFull},
		{FillLimit{1 << 20, 1 << 20}, func() bool { return true }, FillStopped},
	} {
		r, _ := rowsOver(&fakeRows{sets: [][]string{{"a", "b", "c", "d"}}})
		if got := r.Fill(test.limit, test.stop); got != test.want {
			t.Errorf("with %+v: end %d, want %d", test.limit, got, test.want)
		}
		if got := transcript(r, func(int) {}); got != "a, b, c, d, <nil>" {
			t.Errorf("with %+v: %s", test.limit, got)
		}
	}
}

// TestPanicInAFillIsTheProgramsOwn: it comes at the program's own Next, after what was read before.
func TestPanicInAFillIsTheProgramsOwn(t *testing.T) {
	r, _ := rowsOver(&fakeRows{sets: [][]string{{"a"}}, panics: true})
	if end := r.Fill(FillLimit{1 << 20, 1 << 20}, func() bool { return false }); end != FillFull {
		t.Errorf("end %d, want %d", end, FillFull)
	}
	dest := make([]driver.Value, 1)
	must(t, r.Next(dest))
	defer func() {
		if p := recover(); p != "in Next" {
			t.Errorf("Next has panicked with %v", p)
		}
	}()
	r.Next(dest)
	t.Error("the panic is gone")
}

// TestFailureIsRemembered: what the rows have failed with is known, also to a fill that comes later.
func TestFailureIsRemembered(t *testing.T) {
	broken := errors.New("broken")
	r, _ := rowsOver(&fakeRows{sets: [][]string{{}}, fails: broken})
	dest := make([]driver.Value, 1)
	if err := r.Next(dest); !errors.Is(err, broken) || !errors.Is(r.Failure(), broken) {
		t.Errorf("Next: %v, Failure: %v", err, r.Failure())
	}
	r.Fill(FillLimit{1 << 20, 1 << 20}, func() bool { return false })
	if err := r.Next(dest); !errors.Is(err, broken) {
		t.Errorf("Next after a fill: %v", err)
	}
}

// TestEndedRowsSayWhy: rows that were ended answer with the reason, still know their columns, and have no inner rows.
func TestEndedRowsSayWhy(t *testing.T) {
	inner := &fakeRows{sets: [][]string{{"a", "b"}}}
	r, _ := rowsOver(inner)
	dest := make([]driver.Value, 1)
	must(t, r.Next(dest))
	reason := errors.New("it is over")
	r.End(reason)
	if err := r.Next(dest); !errors.Is(err, reason) {
		t.Errorf("Next: %v", err)
	}
	if cols := r.Columns(); len(cols) != 1 || cols[0] != "v" || !inner.closed || !r.IsClosed() {
		t.Errorf("columns %v, inner rows closed %v, rows closed %v", cols, inner.closed, r.IsClosed())
	}
}

// TestErrorOfAnEarlyCloseIsTold by the program's own Close.
func TestErrorOfAnEarlyCloseIsTold(t *testing.T) {
	r, _ := rowsOver(&failingClose{fakeRows{sets: [][]string{{"a"}}}})
	r.Fill(FillLimit{1 << 20, 1 << 20}, func() bool { return false })
	r.ShutEarly()
	if !r.IsShut() || r.IsClosed() {
		t.Error("rows that were shut early are closed to the program")
	}
	if err := r.Close(); err == nil || err.Error() != "close" {
		t.Errorf("Close: %v", err)
	}
}

type failingClose struct{ fakeRows }

func (r *failingClose) Close() error { return errors.New("close") }
