package mysql

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/calmdocs/dblocker/internal/server"
)

// mostUsed is of how many names one query asks: more calls are too much for the server's stack.
const mostUsed = 64

// holders asks who has locks. Sessions of other accounts are shown with the PROCESS privilege only.
func holders(ctx context.Context, sc *server.Conn, wanted []server.WantedLock) ([]server.LockHolder, error) {
	var names []string
	var of []int // the locks that they are of
	locks := stateOf(sc).names(wanted)
	for i, l := range locks {
		every := l.every()
		if l.all && l.shared { // who has a share is in nobody's way
			every = every[len(every)-1:]
		}
		for _, name := range every {
			names, of = append(names, name), append(of, i)
		}
	}
	var found []server.LockHolder
	many := make(map[[2]string]int) // how many names of a lock a session has
	for at := 0; at < len(names); at += mostUsed {
		end := min(at+mostUsed, len(names))
		rows, err := sc.QueryText(ctx, "SELECT COALESCE(IS_USED_LOCK('"+strings.Join(names[at:end], "'), 0), COALESCE(IS_USED_LOCK('")+"'), 0)")
		if err != nil || len(rows) != 1 {
			return nil, err
		}
		for i, session := range rows[0] {
			if session == "0" {
				continue
			}
			key := [2]string{session, fmt.Sprint(of[at+i])}
			if many[key]++; many[key] == 1 {
				found = append(found, server.LockHolder{Lock: of[at+i], Session: session})
			}
		}
	}
	for i, h := range found {
		l := locks[h.Lock]
		found[i].Shared = many[[2]string{h.Session, fmt.Sprint(h.Lock)}] < l.n && !(l.all && l.shared)
	}
	return found, describe(ctx, sc, found)
}

// describe adds what the server shows of sessions.
func describe(ctx context.Context, sc *server.Conn, found []server.LockHolder) error {
	if len(found) == 0 {
		return nil
	}
	var sessions []string
	for _, h := range found {
		sessions = append(sessions, h.Session)
	}
	ids := strings.Join(slices.Compact(slices.Sorted(slices.Values(sessions))), ",")
	rows, err := sc.QueryText(ctx, "SELECT ID, COALESCE(HOST, ''), COALESCE(COMMAND, ''), COALESCE(TIME, -1) FROM information_schema.PROCESSLIST WHERE ID IN ("+ids+")")
	if err != nil {
		return err
	}
	for _, row := range rows {
		for i := range found {
			if h := &found[i]; h.Session == row[0] {
				h.Address, h.State = row[1], row[2]
				if age, err := strconv.Atoi(row[3]); err == nil && age >= 0 {
					h.Since = time.Now().Add(-time.Duration(age) * time.Second)
				}
			}
		}
	}
	// Without the performance schema, or the right to read it, there are no names.
	rows, err = sc.QueryText(ctx, "SELECT PROCESSLIST_ID, ATTR_VALUE FROM performance_schema.session_connect_attrs WHERE ATTR_NAME = 'program_name' AND PROCESSLIST_ID IN ("+ids+")")
	if err != nil {
		return nil
	}
	for _, row := range rows {
		for i := range found {
			if found[i].Session == row[0] {
				found[i].Name = row[1]
			}
		}
	}
	return nil
}
