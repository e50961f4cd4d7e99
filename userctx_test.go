package dblocker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
)

type (
	namedString string
	namedInt    int16
	namedUUID   [16]byte
	stringerID  struct{ id string }
	pointerID   struct{ id string }
)

func (s stringerID) String() string { return s.id }
func (p *pointerID) String() string { return p.id }

func TestUserIDs(t *testing.T) {
	uuid := [16]byte{0x12, 0x3e, 0x45, 0x67, 0xe8, 0x9b, 0x12, 0xd3, 0xa4, 0x56, 0x42, 0x66, 0x14, 0x17, 0x40, 0x00}
	const uuidString = "123e4567-e89b-12d3-a456-426614174000"
	for _, tc := range []struct {
		id   any
		want string
	}{
		{"27", "27"}, {27, "27"}, {int8(27), "27"}, {int16(27), "27"}, {int32(27), "27"}, {int64(27), "27"},
		{uint(27), "27"}, {uint8(27), "27"}, {uint16(27), "27"}, {uint32(27), "27"}, {uint64(27), "27"}, {uintptr(27), "27"},
		{-1, "-1"}, {0, "0"}, {uint64(math.MaxUint64), "18446744073709551615"}, {int64(math.MinInt64), "-9223372036854775808"},
		{namedString("27"), "27"}, {namedInt(27), "27"},
		{uuid, uuidString}, {namedUUID(uuid), uuidString},
		{stringerID{"27"}, "27"}, {&stringerID{"27"}, "27"}, {&pointerID{"27"}, "27"}, {netip.MustParseAddr("::1"), "::1"},
		{" ", " "}, {"\x00", "\x00"}, {strings.Repeat("x", 1<<16), strings.Repeat("x", 1<<16)},
	} {
		for name, ctx := range map[string]context.Context{
			"WithUser":  WithUser(context.Background(), tc.id),
			"WithValue": context.WithValue(context.Background(), UserKey, tc.id),
		} {
			id, ok := identityFrom(ctx)
			if !ok || id.Err != nil || id.User != tc.want {
				t.Errorf("%s(%T %v): got user %q, error %v; want %q", name, tc.id, tc.id, id.User, id.Err, tc.want)
			}
			if (id.Owner != nil) != (name == "WithUser") {
				t.Errorf("%s: owner %p", name, id.Owner)
			}
		}
	}
}

func TestBadUserIDs(t *testing.T) {
	db := openStub(t, &stub{})
	for _, tc := range []struct {
		id   any
		want string
	}{
		{"", "have the function given to web.Middleware return false"}, {stringerID{}, "empty"}, {nil, "<nil>"}, {1.5, "float64"}, {new(int), "*int"}, {(*pointerID)(nil), "a nil *dblocker.pointerID"},
		{[]byte("27"), "[]uint8"}, {[4]byte{}, "[4]uint8"}, {true, "bool"}, {map[string]int{}, "map[string]int"}, {errors.New("x"), "*errors.errorString"},
	} {
		ctx := WithUser(context.Background(), tc.id)
		if _, err := db.ExecContext(ctx, "UPDATE t SET v = 1"); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("Exec as user %T %v: got %v, want an error that says %q", tc.id, tc.id, err, tc.want)
		}
		if _, err := db.BeginTx(ctx, nil); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("Begin as user %T %v: got %v, want an error that says %q", tc.id, tc.id, err, tc.want)
		}
	}
}

// TestErrUserID: wherever an ID comes in, one that is empty is ErrUserID, and one of a wrong type, a fault of the program, is not.
func TestErrUserID(t *testing.T) {
	db := openStub(t, &stub{})
	s := &Store{own: newStoreDB(connectorIn(t, db), db, "sqlite3"), done: make(chan struct{}), live: make(map[*section]struct{})}
	background := context.Background()
	for name, use := range map[string]func(id any) error{
		"Exec":    func(id any) error { return execAs(db, WithUser(background, id)) },
		"UserKey": func(id any) error { return execAs(db, context.WithValue(background, UserKey, id)) },
		"Query": func(id any) error {
			return db.QueryRowContext(WithUser(background, id), "SELECT v FROM t").Scan(new(any))
		},
		"BeginTx": func(id any) error { return second(db.BeginTx(WithUser(background, id), nil)) },
		"Lock": func(id any) error {
			_, unlock, err := Lock(WithUser(background, id), db)
			unlock()
			return err
		},
		"LockUsers": func(id any) error {
			_, unlock, err := LockUsers(background, db, []any{1, id})
			unlock()
			return err
		},
		"RWGetDB": func(id any) error {
			cancel, _, err := s.RWGetDB(id, background, "test")
			cancel()
			return err
		},
	} {
		if err := use(""); !errors.Is(err, ErrUserID) {
			t.Errorf("%s: an empty ID: got %v", name, err)
		}
		if err := use(1.5); err == nil || errors.Is(err, ErrUserID) {
			t.Errorf("%s: an ID of a wrong type: got %v", name, err)
		}
	}
}

func TestUnknownModeIsRefused(t *testing.T) {
	db := openStub(t, &stub{})
	if _, err := db.ExecContext(WithMode(asUser(1), 7), "UPDATE t SET v = 1"); err == nil || !strings.Contains(err.Error(), "dblocker.Shared") {
		t.Errorf("got %v, want an error that names the modes", err)
	}
}

// TestWithoutUser: work that belongs to no user is allowed, and not logged, where work whose user was
// forgotten is not.
func TestWithoutUser(t *testing.T) {
	for _, policy := range []UntaggedPolicy{PassUntagged, WarnUntagged, ErrorUntagged} {
		var log strings.Builder
		db := openStub(t, &stub{}, Untagged(policy), Logger(textLogger(&log)))
		for name, ctx := range map[string]context.Context{
			"at start-up":     WithoutUser(context.Background()),
			"in a request":    WithoutUser(asUser(1)),
			"with a deadline": WithoutUser(t.Context()),
		} {
			if _, err := db.ExecContext(ctx, "UPDATE t SET v = 1"); err != nil {
				t.Errorf("%s, %s: %v", policy, name, err)
			}
			if tx, err := db.BeginTx(ctx, nil); err != nil {
				t.Errorf("%s, %s: Begin: %v", policy, name, err)
			} else {
				must(t, tx.Rollback())
			}
			if _, unlock, err := Lock(ctx, db); !errors.Is(err, ErrNoUser) {
				unlock()
				t.Errorf("%s, %s: a section of nobody: got %v, want ErrNoUser", policy, name, err)
			}
		}
		if log.Len() > 0 {
			t.Errorf("%s: logged %q", policy, log.String())
		}
		if holds, err := Holds(db); err != nil || len(holds) > 0 {
			t.Errorf("%s: got %v, %v; want no locks", policy, holds, err)
		}
		if id, ok := identityFrom(WithUser(WithoutUser(asUser(1)), 2)); !ok || id.User != "2" {
			t.Errorf("a user behind WithoutUser: got %v, %v", id, ok)
		}
	}
}

// TestNoUserNamesThePlace: of the call that has none.
func TestNoUserNamesThePlace(t *testing.T) {
	db := openStub(t, &stub{}, Untagged(ErrorUntagged))
	_, err := db.Exec("UPDATE t SET v = 1")
	if !errors.Is(err, ErrNoUser) || !strings.Contains(err.Error(), "userctx_test.go:") || !strings.Contains(err.Error(), "WithoutUser") {
		t.Errorf("got %v, want ErrNoUser with the place and the way out", err)
	}
}

// TestSuspectUserIDs: an ID that stands for "nobody is logged in" in many programs works, and is logged once.
func TestSuspectUserIDs(t *testing.T) {
	for _, id := range []any{0, int64(0), "0", -1, [16]byte{}, namedUUID{}, "00000000-0000-0000-0000-000000000000", stringerID{"<nil>"}} {
		var log strings.Builder
		logger := textLogger(&log)
		db := openStub(t, &stub{}, Logger(logger))
		for range 2 {
			_, err := db.ExecContext(WithUser(context.Background(), id), "UPDATE t SET v = 1")
			must(t, err)
			_, unlock, err := LockUsers(context.Background(), db, id, 1)
			must(t, err)
			unlock()
		}
		if n := strings.Count(log.String(), "not logged in"); n != 1 || !strings.Contains(log.String(), "userctx_test.go:") {
			t.Errorf("%v: logged %d times, want once and with the place:\n%s", id, n, log.String())
		}
	}
	var log strings.Builder
	db := openStub(t, &stub{}, Logger(textLogger(&log)))
	for _, id := range []any{1, "00", "a0", "nil", [16]byte{15: 1}, math.MinInt64} {
		_, err := db.ExecContext(WithUser(context.Background(), id), "UPDATE t SET v = 1")
		must(t, err)
	}
	if log.Len() > 0 {
		t.Errorf("ordinary IDs: logged %q", log.String())
	}
}

// TestLockUsersTakesSlices: of IDs of any type that an ID may have.
func TestLockUsersTakesSlices(t *testing.T) {
	db := openStub(t, &stub{})
	for _, ids := range [][]any{
		{[]string{"3", "1"}, 2}, {[]int{1, 2, 3}}, {[]any{1, "2", int8(3)}}, {[]int64{1}, []string{"2"}, "3", Tag("merge")},
		{[]stringerID{{"1"}, {"2"}, {"3"}}},
	} {
		_, unlock, err := LockUsers(context.Background(), db, ids...)
		must(t, err)
		holds, err := Holds(db)
		must(t, err)
		if len(holds) != 3 {
			t.Errorf("%v: got %v, want the locks of 1, 2 and 3", ids, holds)
		}
		unlock()
	}
	for _, ids := range [][]any{{[]string{}}, {[]string{"1", ""}}, {[]float64{1}}, {[]byte("1")}, {[][]string{{"1"}}}} {
		if _, unlock, err := LockUsers(context.Background(), db, ids...); err == nil {
			unlock()
			t.Errorf("%v: no error", ids)
		}
	}
}

// TestPrintedContexts show no user: programs log them.
func TestPrintedContexts(t *testing.T) {
	ctx, cancel := context.WithCancel(WithMode(WithUser(context.Background(), "alice"), Shared))
	defer cancel()
	const want = "context.Background.WithValue(dblocker context value user).WithValue(dblocker context value marks).WithCancel"
	if got := fmt.Sprint(ctx); got != want {
		t.Errorf("a context is printed as %s, want %s", got, want)
	}
}
