package fakedriver

import (
	"context"
	"strings"
	"testing"

	"database/sql/driver"
)

// TestOverlapIsTold: two calls at a time on one connection are told, with the stacks of both; on two connections, one after the other, or where
// database/sql does so too, they are not.
func TestOverlapIsTold(t *testing.T) {
	s := NewServer(Full())
	var report string
	s.Overlap = func(r string) { report += r }
	one, other := connect(t, s), connect(t, s)
	rows, err := one.(driver.QueryerContext).QueryContext(t.Context(), "SELECT v FROM t", nil)
	if err != nil {
		t.Fatal(err)
	}
	within := func(f func()) {
		s.Hook = func(_ int, method string) error {
			if method == "conn.Ping" {
				done := make(chan struct{})
				go func() { defer close(done); f() }()
				<-done
			}
			return nil
		}
		one.(driver.Pinger).Ping(t.Context())
	}
	within(func() { other.Close(); rows.Columns() })
	rows.Next(make([]driver.Value, 2))
	if report != "" {
		t.Errorf("calls that may be beside others are told: %s", report)
	}
	within(func() { rows.Close() })
	for _, says := range []string{"two calls at a time on connection 1", "conn.Ping", "rows.Close", "TestOverlapIsTold"} {
		if !strings.Contains(report, says) {
			t.Errorf("the report of two calls at a time says %q, and nothing of %q", report, says)
		}
	}
}

func connect(t *testing.T, s *Server) driver.Conn {
	t.Helper()
	c, err := s.Connector().Connect(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return c
}
