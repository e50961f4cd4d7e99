package sqlite

import (
	"database/sql/driver"
	"errors"
	"reflect"
)

// Primary result codes: https://www.sqlite.org/rescode.html
const (
	codeError      = 1
	codeBusy       = 5
	codeLocked     = 6
	CodeReadOnly   = 8
	codeFull       = 13
	codeConstraint = 19

	codeIOErr    = 10
	codeCorrupt  = 11
	CodeCantOpen = 14
	codeNotADB   = 26
)

// Extended result codes of what could not be written.
const (
	ioErrWrite    = codeIOErr | 3<<8
	ioErrSync     = codeIOErr | 4<<8
	ioErrSyncDir  = codeIOErr | 5<<8
	ioErrTruncate = codeIOErr | 6<<8
)

// Code returns SQLite's primary result code of a driver's error, or 0.
func Code(err error) int { return ExtendedCode(err) & 0xff }

// ExtendedCode returns SQLite's extended result code, or the primary one if the driver has no other. It is
// read by reflection because mattn/go-sqlite3, where it is a field, is not always linked.
func ExtendedCode(err error) int {
	for ; err != nil; err = errors.Unwrap(err) {
		if e, ok := err.(interface{ Code() int }); ok {
			return e.Code()
		}
		v := reflect.ValueOf(err)
		if v.Kind() != reflect.Struct || v.Type().PkgPath() != "github.com/mattn/go-sqlite3" {
			continue
		}
		for _, name := range []string{"ExtendedCode", "Code"} {
			if code := v.FieldByName(name); code.CanInt() && code.Int() != 0 {
				return int(code.Int())
			}
		}
	}
	return 0
}

// IsBusy tells whether another process has locked the database.
func IsBusy(err error) bool { return Code(err) == codeBusy }

// lockedSharedCache is SQLITE_LOCKED for what another connection has. The plain code is also of a connection that is in its own way.
const lockedSharedCache = codeLocked | 1<<8

// Conflicts tells whether a statement was refused, and did nothing, for what another connection does at the moment.
func Conflicts(err error) bool { return IsBusy(err) || ExtendedCode(err) == lockedSharedCache }

// IsLasting tells whether a statement failed for what it says, or for the state of the file or the disk, and would again.
func IsLasting(err error) bool {
	switch Code(err) {
	case codeError, CodeReadOnly, codeIOErr, codeCorrupt, codeFull, CodeCantOpen, codeConstraint, codeNotADB:
		return true
	}
	return false
}

// failedToWrite tells whether a write or a sync has failed.
func failedToWrite(err error) bool {
	switch ExtendedCode(err) {
	case ioErrWrite, ioErrSync, ioErrSyncDir, ioErrTruncate:
		return true
	}
	return false
}

// IsUndone tells, of an error of a COMMIT, whether the transaction is undone for certain, and cannot be in the file. What could
// not be synced may be there after all: when the last connection has closed, the next one recovers what the log has.
func IsUndone(err error) bool {
	switch Code(err) {
	case codeError, codeBusy, codeLocked, CodeReadOnly, codeFull, codeConstraint:
		return true
	}
	return errors.Is(err, driver.ErrBadConn)
}
