package web_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/lib/pq"
	"github.com/mattn/go-sqlite3"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/fakedriver"
	"github.com/calmdocs/dblocker/web"
)

// rows are those of the table in docs/errors.md: by the first cell, an error, the status of it, and whether it is retryable.
var rows = map[string][]struct {
	err    error
	status int
	retry  bool
}{
	"ErrLockTimeout": {
		{&dblocker.LockError{Err: dblocker.ErrLockTimeout, Waited: time.Second}, 503, true},
		{&dblocker.LockError{Err: dblocker.ErrLockTimeout}, 423, true}, // by TryLock
		{fmt.Errorf("x: %w", dblocker.ErrLockTimeout), 503, true},
	},
	"ErrDeadlock":    {{&dblocker.LockError{Err: dblocker.ErrDeadlock}, 503, true}},
	"ErrLockLost":    {{dblocker.ErrLockLost, 503, false}, {fmt.Errorf("%w: %w", dblocker.ErrLockLost, context.Canceled), 503, false}},
	"ErrRolledBack":  {{dblocker.ErrRolledBack, 503, true}, {fmt.Errorf("%w: %w", dblocker.ErrRolledBack, sqlite3.Error{Code: sqlite3.ErrFull}), 500, false}},
	"ErrNoDatabase":  {{fmt.Errorf("x: %w", dblocker.ErrNoDatabase), 404, false}},
	"ErrNotDurable":  {{dblocker.ErrNotDurable, 500, false}},
	"ErrNoUser":      {{dblocker.ErrNoUser, 500, false}},
	"ErrUserID":      {{badUser(""), 400, false}, {fmt.Errorf("x: %w", badUser("")), 400, false}},
	"ErrReadOnly":    {{dblocker.ErrReadOnly, 500, false}},
	"ErrReleased":    {{dblocker.ErrReleased, 500, false}},
	"ErrSpillLimit":  {{dblocker.ErrSpillLimit, 500, false}},
	"serialization":  {{&pq.Error{Code: "40001"}, 409, true}, {&mysql.MySQLError{Number: 1020}, 409, true}},
	"engine's locks": {{&pq.Error{Code: "40P01"}, 503, true}, {&mysql.MySQLError{Number: 1213}, 503, true}, {sqlite3.Error{Code: sqlite3.ErrBusy}, 503, true}},
	"context.Canceled": {
		{context.Canceled, 499, false}, {&dblocker.LockError{Err: context.Canceled}, 499, false},
	},
	"context.DeadlineExceeded": {{context.DeadlineExceeded, 504, false}, {&dblocker.LockError{Err: context.DeadlineExceeded}, 504, false}},
	"sql: database is closed": {
		{closedError(), 503, false}, {fmt.Errorf("x: %w", closedError()), 503, false},
		{errors.Join(errors.New("x"), closedError()), 503, false}, {fmt.Errorf("%w, %w", errors.New("x"), fmt.Errorf("y: %w", closedError())), 503, false},
	},
	"any other": {{errors.New("x"), 500, false}, {&pq.Error{Code: "23505"}, 500, false}, {badUser(1.5), 500, false}, {badUser((*url.URL)(nil)), 500, false}},
}

// badUser is the error of a statement of such a user.
func badUser(id any) error {
	db, err := dblocker.OpenDB(fakedriver.NewServer(fakedriver.Full()).Connector())
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.ExecContext(dblocker.WithUser(context.Background(), id), "DELETE FROM t")
	return err
}

// closedError is that of a handle that is closed.
func closedError() error {
	db := sql.OpenDB(fakedriver.NewServer(fakedriver.Full()).Connector())
	db.Close()
	return db.Ping()
}

// TestStatusOfJoinedErrors: of a call that fails, and then the rollback, the first has the word, wherever it stands, and however deep.
func TestStatusOfJoinedErrors(t *testing.T) {
	for _, other := range []error{sql.ErrTxDone, errors.New("x"), sql.ErrNoRows} {
		for _, cases := range rows {
			for _, c := range cases {
				if c.status == 500 {
					continue
				}
				for _, err := range []error{
					errors.Join(c.err, other), errors.Join(other, c.err), fmt.Errorf("%w: %w", other, c.err), errors.Join(fmt.Errorf("saving: %w", c.err), nil, other),
					fmt.Errorf("saving: %w", errors.Join(other, errors.Join(fmt.Errorf("x: %w", c.err)))),
				} {
					if got := web.Status(err); got != c.status || dblocker.Retryable(err) != c.retry {
						t.Errorf("%q: status %d and retryable %v, want %d and %v", err, got, dblocker.Retryable(err), c.status, c.retry)
					}
				}
			}
		}
	}
}

// TestStatus: the table of the page about errors is what Status and Retryable say; each row of it has a case, and the other
// way round.
func TestStatus(t *testing.T) {
	page, err := os.ReadFile("../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	inPage := make(map[string]string)
	for _, m := range regexp.MustCompile(`(?m)^\| ([^|]+?) \| (.*) \|$`).FindAllStringSubmatch(string(page), -1) {
		inPage[strings.Trim(m[1], "`")] = m[2]
	}
	delete(inPage, "error")
	delete(inPage, "---")
	for name, cases := range rows {
		row, ok := inPage[name]
		if !ok {
			t.Errorf("docs/errors.md has no row for %q", name)
			continue
		}
		delete(inPage, name)
		cells := strings.Split(row, " | ")
		if len(cells) != 4 {
			t.Errorf("%q: the row has %d cells besides the error, want 4", name, len(cells))
			continue
		}
		for _, c := range cases {
			if got := web.Status(c.err); got != c.status {
				t.Errorf("%v: status %d, want %d", c.err, got, c.status)
			}
			if got := dblocker.Retryable(c.err); got != c.retry {
				t.Errorf("%v: retryable %v, want %v", c.err, got, c.retry)
			}
			if !strings.Contains(cells[3], fmt.Sprint(c.status)) {
				t.Errorf("%q: the page says status %q, and Status says %d", name, cells[3], c.status)
			}
			if word := map[bool]string{true: "yes", false: "no"}[c.retry]; !strings.Contains(cells[2], word) {
				t.Errorf("%q: the page says of Retryable %q, and it is %v", name, cells[2], c.retry)
			}
		}
	}
	for name := range inPage {
		t.Errorf("the row %q of docs/errors.md has no case", name)
	}
	if got := web.Status(nil); got != 200 {
		t.Errorf("no error: %d, want 200", got)
	}
}

// TestError: the client learns when to come again, and nothing of the program.
func TestError(t *testing.T) {
	for _, cases := range rows {
		for _, c := range cases {
			rec := httptest.NewRecorder()
			got := web.Error(rec, c.err)
			if got != c.status || rec.Code != c.status {
				t.Errorf("%v: returned %d, wrote %d, want %d", c.err, got, rec.Code, c.status)
			}
			later := rec.Header().Get("Retry-After") != ""
			if want := c.status == 503 || c.status == 409 || c.status == 423; later != want {
				t.Errorf("%v: Retry-After %v, want %v", c.err, later, want)
			}
			if body := rec.Body.String(); body == "\n" || strings.Contains(body, c.err.Error()+" ") || strings.Contains(body, "dblocker") {
				t.Errorf("%v: the client reads %q", c.err, body)
			}
		}
	}
	rec := httptest.NewRecorder()
	if web.Error(rec, nil) != 200 || rec.Body.Len() != 0 || len(rec.Header()) != 0 {
		t.Errorf("no error: wrote %v %q", rec.Header(), rec.Body)
	}
}
