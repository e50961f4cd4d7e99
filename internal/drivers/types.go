package drivers

import (
	"database/sql/driver"
	"reflect"
)

// Package returns the import path of the package that the type of a driver,
// or of its connections, is from.
func Package(d any) string {
	t := reflect.TypeOf(d)
	if t == nil {
		return ""
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.PkgPath()
}

// Field returns the field of that name of a struct, or of what points to one; the
// zero Value if there is none. It is for what drivers know and do not export, or
// export in types of packages that we do not import.
func Field(v reflect.Value, name string) reflect.Value {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return reflect.Value{}
	}
	return v.FieldByName(name)
}

// Flag returns a flag of the configuration that a connection of lib/pq or of
// go-sql-driver/mysql has. If it is not found, it is as if it were set.
func Flag(ci driver.Conn, name string) bool {
	flag := Field(Field(reflect.ValueOf(ci), "cfg"), name)
	return flag.Kind() != reflect.Bool || flag.Bool()
}

var driverConn = reflect.TypeFor[driver.Conn]()

// Wrapped returns the connection that a struct, or what points to one, is around, as
// instrumented drivers are; the zero Value if there is none.
func Wrapped(v reflect.Value) reflect.Value {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return reflect.Value{}
	}
	for i := range v.NumField() {
		f := v.Field(i)
		if f.Kind() == reflect.Interface && !f.IsNil() && f.Elem().Type().Implements(driverConn) {
			return f.Elem()
		}
	}
	return reflect.Value{}
}
