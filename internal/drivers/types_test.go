package drivers

import (
	"database/sql/driver"
	"reflect"
	"testing"
)

const ours = "github.com/calmdocs/dblocker/internal/drivers"

type config struct{ Set, Unset bool }

type conn struct {
	driver.Conn
	cfg  *config
	name string
}

type wrapper struct {
	_     func()
	inner driver.Conn
}

// TestTypes: what is looked for in a driver's types is found through pointers and interfaces, and
// what is not there is no panic.
func TestTypes(t *testing.T) {
	c := &conn{cfg: &config{Set: true}, name: "ann"}
	if got := Package(c); got != ours {
		t.Errorf("the package of a connection is %q, want %q", got, ours)
	}
	if got := Package(nil); got != "" {
		t.Errorf("the package of nothing is %q", got)
	}
	var asInterface any = c
	if got := Field(reflect.ValueOf(&asInterface), "name"); got.Kind() != reflect.String || got.String() != "ann" {
		t.Errorf("the field name is %v, want ann", got)
	}
	for _, v := range []any{c, 7, nil, (*conn)(nil)} {
		if got := Field(reflect.ValueOf(v), "none"); got.IsValid() {
			t.Errorf("%T has a field none: %v", v, got)
		}
	}
	for name, want := range map[string]bool{"Set": true, "Unset": false, "none": true} {
		if got := Flag(c, name); got != want {
			t.Errorf("the flag %s is %v, want %v", name, got, want)
		}
	}
}

// TestWrapped: the connection in a wrapper's field is found; one that has none wraps none.
func TestWrapped(t *testing.T) {
	c := &conn{}
	if got := Wrapped(reflect.ValueOf(&wrapper{inner: c})); !got.IsValid() || got.Pointer() != reflect.ValueOf(c).Pointer() {
		t.Errorf("the wrapper is around %v, want the connection", got)
	}
	for _, v := range []any{c, &wrapper{}, "text", nil} {
		if got := Wrapped(reflect.ValueOf(v)); got.IsValid() {
			t.Errorf("%T is around %v, want nothing", v, got)
		}
	}
}
