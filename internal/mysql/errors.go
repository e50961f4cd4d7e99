package mysql

import (
	"reflect"

	"github.com/calmdocs/dblocker/internal/drivers"
)

// ErrorNumber returns the number of a *mysql.MySQLError, or 0.
func ErrorNumber(err error) uint64 {
	if number := drivers.Field(reflect.ValueOf(err), "Number"); number.CanUint() {
		return number.Uint()
	}
	return 0
}
