package dblocker

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"

	"github.com/calmdocs/dblocker/internal/engines"
)

// causes are the words for errors that are not of an engine. The first that fits is taken: some of ours are others too.
var causes = []struct {
	err  error
	word string
}{
	{ErrDeadlock, "deadlock"},
	{ErrLockTimeout, "lock_timeout"},
	{ErrLockLost, "lock_lost"},
	{ErrNotDurable, "not_durable"},
	{ErrRolledBack, "rolled_back"},
	{ErrSpillLimit, "spill_limit"},
	{ErrReadOnly, "read_only"},
	{ErrReleased, "released"},
	{ErrNoUser, "no_user"},
	{ErrUserID, "user_id"},
	{ErrNoDatabase, "no_database"},
	{errClosed, "closed"},
	{context.Canceled, "canceled"},
	{context.DeadlineExceeded, "deadline_exceeded"},
	{driver.ErrBadConn, "bad_connection"},
	{sql.ErrConnDone, "connection_done"},
	{sql.ErrTxDone, "transaction_done"},
}

// otherCause is of an error that says what it is in its text only. OpenTelemetry has the word.
const otherCause = "_OTHER"

// causeOf returns the word for an error whose code is known.
func causeOf(err error, code string) string {
	if code != "" {
		return code
	}
	for _, c := range causes {
		if errors.Is(err, c.err) {
			return c.word
		}
	}
	return innermostType(err)
}

// innermostType returns the type of the innermost error whose type says what it is; of joined ones, that of the first.
func innermostType(err error) string {
	word := otherCause
	for err != nil {
		if name := fmt.Sprintf("%T", err); !strings.HasPrefix(name, "*errors.") && !strings.HasPrefix(name, "*fmt.") {
			word = name
		}
		err = firstIn(err)
	}
	return word
}

func firstIn(err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		if errs := joined.Unwrap(); len(errs) > 0 {
			return errs[0]
		}
	}
	return errors.Unwrap(err)
}

// name adds the words for the error.
func (e *Event) name() {
	if e.Err != nil {
		e.Code = engines.Code(e.Err)
		e.Cause = causeOf(e.Err, e.Code)
	}
}
