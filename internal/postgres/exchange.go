package postgres

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strings"
	"sync"

	"github.com/calmdocs/dblocker/internal/server"
)

// exchange gives locks up, and then tries others, by a statement that the connection keeps: for the server that is a fraction of the work.
// It tells which the session had, and has.
func exchange(ctx context.Context, sc *server.Conn, left, wanted []server.WantedLock) (given, had []bool, err error) {
	e := exchanges.of(left, wanted)
	args := make([]driver.NamedValue, 0, len(left)+len(wanted))
	for _, locks := range [...][]server.WantedLock{left, wanted} {
		for _, l := range locks {
			args = append(args, driver.NamedValue{Ordinal: len(args) + 1, Value: keyOf(l.Key)})
		}
	}
	row, err := sc.QueryOwn(ctx, e, args)
	if err != nil {
		return nil, nil, err
	}
	found := make([]bool, len(args))
	for i := range found {
		found[i] = i < len(row) && row[i] == true
	}
	return found[:len(left)], found[len(left):], nil
}

// exchangeTexts has the texts of exchange, by the modes of the locks.
type exchangeTexts struct{ sync.Map }

var exchanges exchangeTexts

func (t *exchangeTexts) of(left, wanted []server.WantedLock) string {
	const most = 4 // of which it remembers the text
	var modes [2*most + 1]byte
	if len(left) > most || len(wanted) > most {
		return exchangeText(left, wanted)
	}
	n := 0
	for _, locks := range [...][]server.WantedLock{left, wanted} {
		for _, l := range locks {
			modes[n] = 'x'
			if l.Shared {
				modes[n] = 's'
			}
			n++
		}
		modes[n] = ' '
		n = min(n+1, len(modes)-1)
	}
	if text, ok := t.Load(modes); ok {
		return text.(string)
	}
	text := exchangeText(left, wanted)
	t.Store(modes, text)
	return text
}

func exchangeText(left, wanted []server.WantedLock) string {
	var query strings.Builder
	n := 0
	call := func(function string, locks []server.WantedLock) {
		for _, l := range locks {
			between, shared := "SELECT ", ""
			if n++; n > 1 {
				between = ", "
			}
			if l.Shared {
				shared = "_shared"
			}
			fmt.Fprintf(&query, "%s%s%s($%d)", between, function, shared, n)
		}
	}
	call("pg_advisory_unlock", left)
	call("pg_try_advisory_lock", wanted)
	return query.String()
}
