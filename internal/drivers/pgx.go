package drivers

import (
	"database/sql/driver"
	"reflect"
	"strings"
)

// IsPgxPool tells whether connections are borrowed from a pool of pgx, in which a connection that
// is idle here is one that its other users cannot have.
func IsPgxPool(c driver.Connector) bool {
	v := reflect.ValueOf(c)
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct || !strings.HasPrefix(v.Type().PkgPath(), "github.com/jackc/pgx/") {
		return false
	}
	pool := v.FieldByName("pool")
	return pool.Kind() == reflect.Pointer && !pool.IsNil()
}
