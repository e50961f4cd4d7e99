package sqlite

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"testing"

	"github.com/mattn/go-sqlite3"
)

// A codedError is an error as other drivers have it: with one code, the extended one.
type codedError int

func (e codedError) Error() string { return fmt.Sprint("code ", int(e)) }
func (e codedError) Code() int     { return int(e) }

// TestWhatAnErrorTells: of the connections to the file, and of a transaction whose COMMIT has it.
func TestWhatAnErrorTells(t *testing.T) {
	of := func(code sqlite3.ErrNo, extended sqlite3.ErrNoExtended) []error {
		errs := []error{sqlite3.Error{Code: code, ExtendedCode: extended}, fmt.Errorf("of the program: %w", sqlite3.Error{Code: code, ExtendedCode: extended})}
		return append(errs, codedError(max(int(extended), int(code))))
	}
	for name, c := range map[string]struct {
		errs             []error
		suspects, undone bool
	}{
		"sync":         {of(sqlite3.ErrIoErr, sqlite3.ErrIoErrFsync), false, false},
		"write":        {of(sqlite3.ErrIoErr, sqlite3.ErrIoErrWrite), false, false},
		"directory":    {of(sqlite3.ErrIoErr, sqlite3.ErrIoErrDirFsync), false, false},
		"read":         {of(sqlite3.ErrIoErr, sqlite3.ErrIoErrRead), true, false},
		"short":        {of(sqlite3.ErrIoErr, sqlite3.ErrIoErrShortRead), true, false},
		"i/o":          {of(sqlite3.ErrIoErr, 0), true, false},
		"corrupt":      {of(sqlite3.ErrCorrupt, 0), true, false},
		"memory":       {of(sqlite3.ErrNomem, 0), false, false},
		"no database":  {of(sqlite3.ErrNotADB, 0), true, false},
		"foreign key":  {of(sqlite3.ErrConstraint, sqlite3.ErrConstraintForeignKey), false, true},
		"full":         {of(sqlite3.ErrFull, 0), false, true},
		"busy":         {of(sqlite3.ErrBusy, sqlite3.ErrBusySnapshot), false, true},
		"no tx":        {of(sqlite3.ErrError, 0), false, true},
		"not sent":     {[]error{driver.ErrBadConn, fmt.Errorf("closed: %w", driver.ErrBadConn)}, false, true},
		"not SQLite's": {[]error{errors.New("of a wrapper"), nil}, false, false},
	} {
		for _, err := range c.errs {
			if got := new(Connector).isOfTheFile(err); got != c.suspects {
				t.Errorf("%s, %T: all connections are suspect: %v", name, err, got)
			}
			if got := IsUndone(err); got != c.undone {
				t.Errorf("%s, %T: undone for certain: %v", name, err, got)
			}
		}
	}
}
