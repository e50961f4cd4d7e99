package mysql

import (
	"reflect"

	"github.com/calmdocs/dblocker/internal/drivers"
)

// tellsTx reads the flags that the server sent with its last answer that was no error.
// https://dev.mysql.com/doc/dev/mysql-server/latest/mysql__com_8h.html#a1d854e841086925be1883e4d7b4e8cad
func tellsTx(v reflect.Value) func() bool {
	const (
		inTransaction = 1
		autocommit    = 2
	)
	status := drivers.Field(v, "status")
	if status.Kind() != reflect.Uint16 {
		return nil
	}
	return func() bool { return status.Uint()&(inTransaction|autocommit) != autocommit }
}
