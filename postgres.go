package dblocker

import (
	"cmp"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/user"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/calmdocs/dblocker/internal/drivers"
	"github.com/calmdocs/dblocker/internal/redact"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

var postgresDialect = &dialect{
	name:     "postgres",
	text:     sqltext.PostgreSQL,
	marks:    []string{"postgres", "pgx", "lib/pq", "pgdriver"},
	bindType: sqlx.DOLLAR,
	limits: poolLimits{
		// The server's max_connections is 100 by default, three of which are
		// kept for superusers: leave some to other programs.
		// https://www.postgresql.org/docs/current/runtime-config-connection.html
		maxOpenConns: 80,
		maxIdleConns: defaultIdleConns,
		// Every connection is a process of the server.
		connMaxIdleTime: 5 * time.Minute,
	},
	database: postgresDatabase,
	limitStatements: func(ctx context.Context, sc *serverConn, d time.Duration) error {
		// In milliseconds; 0 would turn the limit off.
		// https://www.postgresql.org/docs/current/runtime-config-client.html
		value := "DEFAULT"
		if d > 0 {
			value = fmt.Sprint(max(1, d.Milliseconds()))
		}
		_, err := sc.ExecContext(ctx, "SET statement_timeout = "+value, nil)
		return err
	},
	identify:         postgresIdentify,
	survivors:        postgresSurvivors,
	tellsTx:          postgresTellsTx,
	enforcesReadOnly: true,

	stmtCache: defaultStmtCache,
	keepFrom: func(ci driver.Conn) int {
		// Without arguments lib/pq uses the simple protocol, which takes several
		// statements; with binary_parameters it has one round trip as it is. pgx has a
		// cache of its own.
		if drivers.Package(ci) != "github.com/lib/pq" || drivers.Flag(ci, "BinaryParameters") {
			return neverKeep
		}
		return 1
	},
	// The server does not tell of a table, function or type that another program makes
	// earlier in the search path, nor of a trigger that changes the session.
	keepsFor:    time.Minute,
	staleStmt:   postgresStaleStmt,
	unknownStmt: func(err error) bool { return sqlState(err) == undefinedStatement },
	isPooled:    postgresIsPooled,
}

// undefinedStatement and others are SQLSTATEs:
// https://www.postgresql.org/docs/current/errcodes-appendix.html
const (
	undefinedStatement = "26000" // invalid_sql_statement_name
	duplicateStatement = "42P05" // duplicate_prepared_statement
	notSupported       = "0A000" // feature_not_supported
)

// postgresStaleStmt knows the errors that say nothing was executed. "Cached plan
// must not change result type" is told by the function that it is from, since its
// text may be in any language. In a function of the server it is about another plan.
func postgresStaleStmt(err error) bool {
	switch sqlState(err) {
	case undefinedStatement, duplicateStatement:
		return true
	case notSupported:
		e := reflect.ValueOf(err)
		return errorField(e, "Routine") == "RevalidateCachedQuery" && errorField(e, "Where") == ""
	}
	return false
}

// sqlState returns the SQLSTATE of an error of PostgreSQL, or "".
func sqlState(err error) string {
	var e interface{ SQLState() string }
	if errors.As(err, &e) {
		return e.SQLState()
	}
	return ""
}

// errorField returns a field of an error of lib/pq or pgx, or "".
func errorField(err reflect.Value, name string) string {
	if f := drivers.Field(err, name); f.Kind() == reflect.String {
		return f.String()
	}
	return ""
}

// postgresIsPooled compares the process that the connection was said to be served
// by, when it was opened, with the one that serves it.
func postgresIsPooled(ctx context.Context, sc *serverConn) (bool, error) {
	if sc.keepFrom == neverKeep {
		return false, nil
	}
	rows, err := sc.queryText(ctx, "SELECT pg_backend_pid()")
	if err != nil || len(rows) != 1 {
		return true, err
	}
	return rows[0][0] != postgresProcess(sc.ci), nil
}

// postgresProcess returns the process ID that the server sent to lib/pq at connect,
// or "" for another driver. lib/pq does not export it.
func postgresProcess(ci driver.Conn) string {
	if pid := drivers.Field(reflect.ValueOf(ci), "pid"); pid.IsValid() && pid.CanInt() {
		return fmt.Sprint(pid.Int())
	}
	return ""
}

// postgresIdentify has the process ID that the server sent at connect from the
// driver, lib/pq or pgx, by reflection: pgx is not among our dependencies. To ask pg_backend_pid() would be wrong behind pgbouncer,
// which may run each transaction in another process.
func postgresIdentify(_ context.Context, sc *serverConn) error {
	v := reflect.ValueOf(sc.ci)
	if pgx, ok := pgxConn(v); ok {
		sc.session.id = fmt.Sprint(pgx.PID())
		sc.isClosed = pgx.IsClosed
	} else if sc.session.id = postgresProcess(sc.ci); sc.session.id != "" {
		sc.distrust()
	}
	return nil
}

// pgxConn returns v.Conn().PgConn(), which a *stdlib.Conn of pgx has. The names
// are constants here, or the linker would keep every method of the program.
func pgxConn(v reflect.Value) (conn interface {
	PID() uint32
	IsClosed() bool
}, ok bool) {
	var result any
	if result, ok = getter(v.MethodByName("Conn")); !ok {
		return nil, false
	}
	if result, ok = getter(reflect.ValueOf(result).MethodByName("PgConn")); !ok {
		return nil, false
	}
	conn, ok = result.(interface {
		PID() uint32
		IsClosed() bool
	})
	return conn, ok
}

// getter calls a method, if it is one without arguments and with one result.
func getter(method reflect.Value) (result any, ok bool) {
	if !method.IsValid() || method.Type().NumIn() != 0 || method.Type().NumOut() != 1 {
		return nil, false
	}
	return method.Call(nil)[0].Interface(), true
}

// postgresSurvivors only looks. lib/pq waits for the server's answer to a cancel
// request; pgx sends one in the background when it closes the connection; and the
// server ends a session that has no client and nothing to do. A process that got
// the ID of one that is gone is waited for in vain, but is not harmed.
func postgresSurvivors(ctx context.Context, sc *serverConn, lost []session) ([]session, error) {
	rows, err := sc.queryText(ctx, "SELECT pid FROM pg_stat_activity")
	if err != nil {
		return nil, err
	}
	var alive []session
	for _, row := range rows {
		if s := (session{id: row[0]}); slices.Contains(lost, s) {
			alive = append(alive, s)
		}
	}
	return alive, nil
}

// postgresDatabase returns host, port and database of a connection string, with
// the defaults of libpq, so that lib/pq and pgx agree on it. What it cannot read
// is its own identity.
// https://www.postgresql.org/docs/current/libpq-connect.html
func postgresDatabase(dsn string) string {
	params, ok := postgresParams(dsn)
	if !ok {
		return dsn
	}
	get := func(key, env, fallback string) string {
		return cmp.Or(params[key], os.Getenv(env), fallback)
	}
	host := get("host", "PGHOST", "localhost")
	host = cmp.Or(params["hostaddr"], host)
	name := get("user", "PGUSER", osUser())
	name = get("dbname", "PGDATABASE", name)
	return fmt.Sprintf("%s:%s/%s", postgresHost(host), get("port", "PGPORT", "5432"), name)
}

// postgresHost gives one name to the ways to reach the server on this machine:
// the loopback addresses, and the socket directories that PostgreSQL and its
// packages are built with.
func postgresHost(host string) string {
	switch host {
	case "/tmp", "/var/run/postgresql", "/run/postgresql":
		return "localhost"
	}
	return normalizeHost(host)
}

// normalizeHost gives one name to the loopback addresses and spellings of case.
func normalizeHost(host string) string {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
		return "localhost"
	}
	return host
}

func osUser() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return ""
}

// postgresParams reads a connection string in URL or keyword form.
func postgresParams(dsn string) (map[string]string, bool) {
	if strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://") {
		return postgresURLParams(dsn)
	}
	return postgresKeywords(dsn)
}

func postgresURLParams(dsn string) (map[string]string, bool) {
	u, err := url.Parse(dsn)
	if err != nil {
		return nil, false
	}
	params := map[string]string{
		"host":   u.Hostname(),
		"port":   u.Port(),
		"user":   u.User.Username(),
		"dbname": strings.TrimPrefix(u.Path, "/"),
	}
	for key, values := range u.Query() {
		if key == "database" { // pgx's synonym
			key = "dbname"
		}
		params[key] = values[0]
	}
	return params, true
}

// postgresKeywords reads key = value pairs.
func postgresKeywords(dsn string) (map[string]string, bool) {
	params := make(map[string]string)
	for rest := strings.TrimLeft(dsn, " \t\r\n"); rest != ""; rest = strings.TrimLeft(rest, " \t\r\n") {
		key, after, found := strings.Cut(rest, "=")
		if !found {
			return nil, false
		}
		value, after, ok := redact.KeywordValue(strings.TrimLeft(after, " \t\r\n"))
		if !ok {
			return nil, false
		}
		params[strings.TrimSpace(key)] = value
		rest = after
	}
	return params, true
}
