package server

import (
	"testing"

	"github.com/calmdocs/dblocker/internal/fakedriver"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

func callOf(query string) *Call {
	return &Call{Query: query, Statement: sqltext.NewCache(sqltext.Generic).Classify(query)}
}

// TestStatementsAreKeptFromTheSecondUseOn, the least recently used one makes way, and one that is in use is not closed.
func TestStatementsAreKeptFromTheSecondUseOn(t *testing.T) {
	s := fakedriver.NewServer(fakedriver.Full())
	sc := connTo(t, s)
	exec := func(queries ...string) {
		for _, q := range queries {
			if _, err := sc.Exec(t.Context(), callOf(q)); err != nil {
				t.Fatal(err)
			}
		}
	}
	expect := func(when string, prepared, closed, kept int) {
		t.Helper()
		n := s.Counts()
		if n["conn.PrepareContext"] != prepared || n["stmt.Close"] != closed || len(sc.Cached().Stmts) != kept {
			t.Errorf("%s: %d prepared, %d closed, %d kept; want %d, %d, %d",
				when, n["conn.PrepareContext"], n["stmt.Close"], len(sc.Cached().Stmts), prepared, closed, kept)
		}
	}
	exec("UPDATE a")
	expect("after one use", 0, 0, 0)
	exec("UPDATE a", "UPDATE a")
	expect("after three", 1, 0, 1)

	busy, found, err := sc.PrepareKept(t.Context(), callOf("UPDATE a"))
	must(t, err)
	if !found {
		t.Error("a statement that is kept is not found")
	}
	busy.Evict()
	expect("evicted in use", 1, 0, 0)
	must(t, busy.Release())
	expect("evicted and released", 1, 1, 0)
}

// TestChangesMakeStatementsStale: those of the session, those of the schema by whomever, and those that the end of a
// transaction may undo.
func TestChangesMakeStatementsStale(t *testing.T) {
	sc := connTo(t, fakedriver.NewServer(fakedriver.Full()))
	for name, change := range map[string]func(){
		"session":        func() { sc.noteSession(sqltext.AltersSession, false, false) },
		"schema":         func() { sc.schema.Add(1) },
		"end":            func() { sc.noteSession(sqltext.AltersSession, true, false); sc.EndTx() },
		"schema at end":  func() { sc.changesSchema = true; sc.EndTx() },
		"undone in a tx": func() { sc.noteSession(sqltext.AltersNothing, true, true) },
	} {
		before := sc.Cached().Version
		change()
		if stale := sc.Cached().Version != before; stale != (name != "undone in a tx") {
			t.Errorf("%s: statements are stale: %v", name, stale)
		}
	}
}
