package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/calmdocs/dblocker/internal/server"
)

// holders asks who has locks. Of the sessions of other roles the server shows the number only, but to a member of pg_read_all_stats.
func holders(ctx context.Context, sc *server.Conn, locks []server.WantedLock) ([]server.LockHolder, error) {
	return holdersBy(ctx, sc, locks, "''")
}

// holdersBy is holders with the mark that a holder has, if any, by an expression.
func holdersBy(ctx context.Context, sc *server.Conn, locks []server.WantedLock, mark string) ([]server.LockHolder, error) {
	var which strings.Builder
	places := make(map[[2]string]int, len(locks))
	for i, l := range locks {
		key := uint64(keyOf(l.Key))
		class, obj := fmt.Sprint(key>>32), fmt.Sprint(key&(1<<32-1))
		places[[2]string{class, obj}] = i
		if i > 0 {
			which.WriteString(" OR ")
		}
		fmt.Fprintf(&which, "l.classid = %s AND l.objid = %s", class, obj)
	}
	rows, err := sc.QueryText(ctx, "SELECT l.classid::bigint, l.objid::bigint, l.mode, l.pid, COALESCE(a.application_name, ''), COALESCE(host(a.client_addr) || ':' || a.client_port, ''), "+
		"COALESCE(a.state, ''), COALESCE((extract(epoch FROM clock_timestamp() - COALESCE(a.xact_start, a.query_start)) * 1000)::bigint, -1), COALESCE("+mark+", '') "+
		"FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 "+
		"AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND ("+which.String()+")")
	if err != nil {
		return nil, err
	}
	found := make([]server.LockHolder, 0, len(rows))
	for _, row := range rows {
		if len(row) != 9 {
			continue
		}
		h := server.LockHolder{Lock: places[[2]string{row[0], row[1]}], Shared: row[2] == "ShareLock", Session: row[3], Name: row[4], Address: row[5], State: row[6], Mark: row[8]}
		if age, err := strconv.ParseInt(row[7], 10, 64); err == nil && age >= 0 {
			h.Since = time.Now().Add(-time.Duration(age) * time.Millisecond)
		}
		found = append(found, h)
	}
	return found, nil
}
