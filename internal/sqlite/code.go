package sqlite

import (
	"errors"
	"reflect"
)

// Primary result codes: https://www.sqlite.org/rescode.html
const (
	codeBusy     = 5
	CodeReadOnly = 8
	codeIOErr    = 10
	codeCorrupt  = 11
	CodeCantOpen = 14
	codeNotADB   = 26
)

// Code returns SQLite's primary result code of a driver's error, or 0. It is
// read by reflection because mattn/go-sqlite3, where it is a field, is not always
// linked.
func Code(err error) int {
	for ; err != nil; err = errors.Unwrap(err) {
		if e, ok := err.(interface{ Code() int }); ok {
			return e.Code() & 0xff
		}
		v := reflect.ValueOf(err)
		if v.Kind() != reflect.Struct || v.Type().PkgPath() != "github.com/mattn/go-sqlite3" {
			continue
		}
		if code := v.FieldByName("Code"); code.CanInt() {
			return int(code.Int()) & 0xff
		}
	}
	return 0
}

// IsBusy tells whether another process has locked the database.
func IsBusy(err error) bool { return Code(err) == codeBusy }
