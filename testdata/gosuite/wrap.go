// Package sql is Go's own package database/sql, of which gosuite_test.go puts a
// copy beside this file. The copy's OpenDB asks wrapConnector for its connector,
// so that every connection of its tests is one of dblocker's over one of their
// fake driver's. Where the tests look at the fake driver, they look through
// unwrap.
package sql

import (
	"database/sql/driver"
	"reflect"
	"strings"

	"github.com/calmdocs/dblocker"
)

// A wrappedConnector remembers what it wraps, for the tests that ask.
type wrappedConnector struct {
	*dblocker.Connector
	inner driver.Connector
}

func wrapConnector(inner driver.Connector) driver.Connector {
	// As many idle connections as the tests expect of database/sql.
	c, err := dblocker.NewConnector(inner, dblocker.MaxIdleConns(defaultMaxIdleConns))
	if err != nil {
		panic(err)
	}
	return wrappedConnector{c, inner}
}

// unwrap returns the fake driver's object behind one of dblocker's, and any other
// object as it is.
func unwrap(x any) any {
	switch x := x.(type) {
	case wrappedConnector:
		return x.inner
	case *dblocker.Driver:
		return x.Unwrap()
	case dblocker.RawConn:
		return rawConn(x)
	case driver.Rows:
		return field(x, "Inner")
	case driver.Tx:
		return field(x, "Tx")
	}
	return x
}

func rawConn(c dblocker.RawConn) (inner any) {
	err := c.Raw(func(driverConn any) error {
		inner = driverConn
		return nil
	})
	if err != nil {
		panic(err)
	}
	return inner
}

var dblockerPath = reflect.TypeFor[dblocker.Driver]().PkgPath()

// field returns what x, if it is a struct of dblocker's, has under the given name. No program has a
// way to these.
func field(x any, name string) any {
	for {
		v := reflect.Indirect(reflect.ValueOf(x))
		if !strings.HasPrefix(v.Type().PkgPath(), dblockerPath) {
			return x
		}
		x = v.FieldByName(name).Interface()
	}
}
