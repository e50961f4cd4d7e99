package dblocker

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"testing/slogtest"
)

// TestSlogHandler is one as package slogtest wants it.
func TestSlogHandler(t *testing.T) {
	var log bytes.Buffer
	slogtest.Run(t, func(*testing.T) slog.Handler {
		log.Reset()
		return SlogHandler(slog.NewJSONHandler(&log, nil))
	}, func(t *testing.T) map[string]any {
		var record map[string]any
		must(t, json.Unmarshal(log.Bytes(), &record))
		return record
	})
}

// TestSlogHandlerTellsUsersApart also in JSON, where bytes that are not UTF-8 would look the same.
func TestSlogHandlerTellsUsersApart(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(SlogHandler(slog.NewJSONHandler(&log, nil)))
	for _, user := range []string{"\xff", "\xfe"} {
		logger.InfoContext(asUser(user), "hello")
	}
	if !strings.Contains(log.String(), `"user":"\\xff"`) || !strings.Contains(log.String(), `"user":"\\xfe"`) {
		t.Errorf("got %s", log.String())
	}
}

// TestSlogHandlerAdds: user, section and request, outside of groups, and only once each.
func TestSlogHandlerAdds(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(SlogHandler(slog.NewTextHandler(&log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		switch a.Key {
		case slog.TimeKey, slog.LevelKey:
			return slog.Attr{}
		case "request":
			if a.Value.Uint64() == 0 {
				t.Error("the request has no number")
			}
			return slog.String("request", "r")
		}
		return a
	}})))
	db := openStub(t, &stub{})
	outer, unlock, err := Lock(asUser("a\nuser=\"root\""), db, Tag("export\x1b[2J"))
	must(t, err)
	defer unlock()
	inner, unlock, err := Lock(outer, db)
	must(t, err)
	defer unlock()
	for _, tc := range []struct {
		ctx    context.Context
		logger *slog.Logger
		want   string
	}{
		{context.Background(), logger, `msg=m a=1`},
		{WithoutUser(asUser(1)), logger, `msg=m a=1 request=r`},
		{asUser(27), logger, `msg=m a=1 user=27 request=r`},
		{inner, logger, `msg=m a=1 user="a\nuser=\"root\"" section="export\x1b[2J" request=r`},
		{asUser(27), logger.With("b", 2).WithGroup("g").With("c", 3), `user=27 request=r b=2 msg=m g.c=3 g.a=1`},
	} {
		log.Reset()
		tc.logger.InfoContext(tc.ctx, "m", "a", 1)
		got, want := strings.Fields(strings.TrimSpace(log.String())), strings.Fields(tc.want)
		for _, w := range want {
			if !strings.Contains(" "+log.String(), " "+w) {
				t.Errorf("logged %q, want %q", got, tc.want)
				break
			}
		}
		if len(got) != len(want) {
			t.Errorf("logged %q, want %q", got, tc.want)
		}
	}
}

// TestUser reads what the others put into a context.
func TestUser(t *testing.T) {
	for _, tc := range []struct {
		ctx  context.Context
		want string
		ok   bool
	}{
		{context.Background(), "", false},
		{asUser(27), "27", true},
		{context.WithValue(context.Background(), UserKey, "x"), "x", true},
		{Fork(asUser(27)), "27", true},
		{WithoutUser(asUser(27)), "", false},
		{asUser(""), "", false},
		{asUser(1.5), "", false},
	} {
		if user, ok := User(tc.ctx); user != tc.want || ok != tc.ok {
			t.Errorf("got %q and %v, want %q and %v", user, ok, tc.want, tc.ok)
		}
	}
}

// TestSlogHandlerOfNil panics where it is made, not at the first record.
func TestSlogHandlerOfNil(t *testing.T) {
	defer func() {
		if p := recover(); p != "dblocker: SlogHandler: the inner handler is nil" {
			t.Errorf("panic %v", p)
		}
	}()
	SlogHandler(nil)
}
