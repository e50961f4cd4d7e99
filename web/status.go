package web

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/engines"
)

// StatusClientClosedRequest is the [Status] of a request whose client is gone. No client sees it; it is for logs,
// which know it from nginx.
const StatusClientClosedRequest = 499

// Status returns the HTTP status for an error of the database:
//
//   - 200 for nil.
//   - 400 if the user ID cannot be used, see [dblocker.ErrUserID].
//   - 404 if the user has no database, and gets none.
//   - 423 if a lock was not free that was asked for without waiting, as by [dblocker.TryLock].
//   - 409 if the engine has given the transaction up since another has changed what it had read.
//   - 503 for whatever else a new try may cure, see [dblocker.Retryable]: a timeout, a deadlock, an overload; and if the lock is
//     lost, or the database is closed.
//   - 504 if the request's own time is over, [StatusClientClosedRequest] if its client is gone.
//   - 500 for all others: the program has to change, or a person has to look, or the error is none that dblocker knows.
func Status(err error) int {
	var waited *dblocker.LockError
	switch {
	case err == nil:
		return http.StatusOK
	case errors.Is(err, dblocker.ErrReleased): // which is context.Canceled too
		return http.StatusInternalServerError
	case errors.Is(err, dblocker.ErrNotDurable):
		return http.StatusInternalServerError
	case errors.Is(err, dblocker.ErrUserID):
		return http.StatusBadRequest
	case errors.Is(err, dblocker.ErrNoDatabase):
		return http.StatusNotFound
	case errors.Is(err, dblocker.ErrLockLost):
		return http.StatusServiceUnavailable
	case errors.Is(err, context.DeadlineExceeded):
		return http.StatusGatewayTimeout
	case errors.Is(err, context.Canceled):
		return StatusClientClosedRequest
	case !dblocker.Retryable(err) && !isClosed(err):
		return http.StatusInternalServerError
	case errors.As(err, &waited) && waited.Waited == 0 && errors.Is(waited.Err, dblocker.ErrLockTimeout):
		return http.StatusLocked
	case engines.Serialization(err) && !errors.Is(err, dblocker.ErrRolledBack):
		return http.StatusConflict
	}
	return http.StatusServiceUnavailable
}

// retryAfter is in seconds: what dblocker has waited for has most likely had half a minute.
const retryAfter = "1"

// Error answers a request with the [Status] of an error, and returns it for the log. Where a new try may help it sets
// Retry-After. The text of the error is not for the client: it may name users and places of the program. If err is nil,
// nothing is written.
func Error(w http.ResponseWriter, err error) (status int) {
	status = Status(err)
	switch status {
	case http.StatusOK:
		return status
	case http.StatusServiceUnavailable, http.StatusConflict, http.StatusLocked:
		w.Header().Set("Retry-After", retryAfter)
	}
	text := http.StatusText(status)
	if status == StatusClientClosedRequest {
		text = "Client Closed Request"
	}
	http.Error(w, text, status)
	return status
}

// isClosed tells whether the handle was closed. The error of database/sql for it is not exported.
func isClosed(err error) bool {
	if err == nil || err.Error() == "sql: database is closed" {
		return err != nil
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return isClosed(e.Unwrap())
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(e.Unwrap(), isClosed)
	}
	return false
}
